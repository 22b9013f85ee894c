-- Which device holds this certificate: the one filter of the device list that no other index answers.
CREATE INDEX device_device_key ON device (account_id, device_key);
