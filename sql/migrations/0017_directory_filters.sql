-- What people wrote about a device, found among those that they wrote about; few are.
CREATE INDEX device_described ON device (account_id, id) WHERE description <> '';
-- How many devices bear one name: without it PostgreSQL takes 500 for granted and walks the table for them.
CREATE STATISTICS device_called ON (coalesce(name, endpoint)) FROM device;
