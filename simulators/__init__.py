"""Devices and faults for tests and demonstrations; an independent witness that shares no code with the server."""
