-- The public key of the factory certificate a device came with last (SHA-256 of its SubjectPublicKeyInfo): no other device
-- gets a certificate for it.
ALTER TABLE device ADD COLUMN factory_key bytea;
CREATE INDEX device_factory_key ON device (factory_key);
