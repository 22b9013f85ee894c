"""What a command looks like when it is typed: an example at the end of its help, through either door."""

from collections.abc import Mapping

import typer

EXAMPLES: Mapping[str, str] = {
    "serve": "serve --data-dir firstlight-data --lwm2m-uri coaps://lwm2m.example.com:5684",
    "demo": "demo --devices 20 --ca cfssl",
    "api-key add": "api-key add ci --role reader",
    "ca export": "ca export server-root --out server-root.pem",
    "ca export-root-key": "ca export-root-key --out root-key.pem --passphrase-file passphrase --remove",
    "ca crl": "ca crl --out issuing.crl",
    "certificate revoke": "certificate revoke 4a:1f:03 --reason keyCompromise",
    "db rotate-master-key": "db rotate-master-key --new-key-file new.key",
    "device explain": "device explain meter-0001 --version 1.1",
    "device renew": "device renew meter-0001 --wait 120",
    "device transcript": "device transcript meter-0001 --text",
    "issuer add": "issuer add acme --type CFSSL_AUTH --set host_url=https://ca.example.com:8888 "
    "--secret-file hmac_hex_key=key.txt --check",
    "issuer set": "issuer set acme --set cfssl_profile=device",
    "issuer activate": "issuer activate acme --service LWM2M",
    "operator add": "operator add alice --role admin",
    "profile set": "profile set meters meters.toml",
    "psk add": "psk add urn:imei:490154203237518 --key-file key.hex --endpoint meter-0001",
    "service add": "service add wifi --issuer acme",
    "ca renew-server": "ca renew-server --data-dir firstlight-data",
    "status": "status --data-dir firstlight-data",
    "trust add": "trust add factory-ca.pem --service bootstrap",
    "trust deny": "trust deny 'Factory CA'",
}


def shown(commands: typer.Typer) -> None:
    """Put the examples into the help of `commands`, those that it has."""
    for command in commands.registered_commands:
        _show(command, command.name or "")
    for group in commands.registered_groups:
        for command in group.typer_instance.registered_commands if group.typer_instance is not None else ():
            _show(command, f"{group.name} {command.name}")


def _show(command: typer.models.CommandInfo, words: str) -> None:
    if words in EXAMPLES:
        command.epilog = f"Example: firstlight {EXAMPLES[words]}"
