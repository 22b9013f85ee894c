module firstlight/tests/interop/hvclient

go 1.18

require github.com/globalsign/hvclient v1.5.0
