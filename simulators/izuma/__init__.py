"""The Izuma (Pelion, Mbed) device client as public facts describe it, sharing no code with the server."""
