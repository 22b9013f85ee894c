"""How an operator's script renews a certificate with the vendor's Python SDK; run as a program of its own.

Its arguments: the URL of the API, a file with an API key, and the id of a registered device that answers with "busy".
Prints one word for each step that did what it should, and ends with 0 only if all did.
"""

import sys
import time
from pathlib import Path

from mbed_cloud import SDK, ApiFilter
from mbed_cloud.sdk.exceptions import ApiErrorResponse

PATIENCE = 60.0


def main(url: str, key_file: str, device_id: str) -> None:
    """The operator's script."""
    entities = SDK(api_key=Path(key_file).read_text().strip(), host=url).foundation
    device = entities.device(id=device_id)

    enrollment = device.renew_certificate("LWM2M")
    assert enrollment.id
    assert enrollment.device_id == device_id
    assert enrollment.certificate_name == "LWM2M"
    print("renewed", flush=True)

    status = 0
    try:
        device.renew_certificate("no such service")
    except ApiErrorResponse as error:
        status = int(error.status_code)
    assert status == 400, status
    print("refused", flush=True)

    only = ApiFilter()
    only.add_filter("device_id", "eq", device_id)
    only.add_filter("certificate_name", "eq", "LWM2M")
    assert [row.id for row in entities.certificate_enrollment().list(filter=only)] == [enrollment.id]
    done = ApiFilter()
    done.add_filter("device_id", "eq", device_id)
    done.add_filter("enroll_result", "eq", "success")
    assert list(entities.certificate_enrollment().list(filter=done)) == []
    print("listed", flush=True)

    deadline = time.monotonic() + PATIENCE
    read = entities.certificate_enrollment(id=enrollment.id).read()
    while read.enroll_status == "new" and time.monotonic() < deadline:
        time.sleep(0.1)
        read = read.read()
    assert (read.enroll_status, read.enroll_result) == ("completed", "failure")
    assert "processing too many certificate renewals" in read.enroll_result_detail
    assert read.updated_at >= read.created_at
    print("read", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
