-- What came to nothing, oldest first, so that what is too old is found without a look at what was delivered. Both
-- columns of the condition stand in those of other indexes already: no step of an issuance leaves its page for it.
CREATE INDEX issuance_failed ON issuance (opened_at, id) WHERE settled AND error_class <> 'Abandoned';
