-- The intents of a device that count for the bounds of a day, in the order in which they were opened. What a CA failed to
-- give does not count, nobody is locked out by an outage; what is under way does, and so does what a CA signed and no
-- device may have (too large, for instance), or may have signed: until a person says that it is looked into. That a CA
-- refused counts where the CSR is the device's own: one that was made here says nothing of the device. What lies farther
-- ahead than clocks differ is of a clock that was set back.
--
-- It is a part of the statement that asks it, no call. Endpoint and time are compared as a row, and no column bare: only
-- `issuance_endpoint` can find that. For `=` and `>` the planner takes `issuance_opened` as well, all that was opened
-- within the day, while the record is small or knew but one device when its statistics were made.
CREATE FUNCTION issuance_counted(of_account uuid, of_endpoint text)
RETURNS TABLE (endpoint text, opened_at timestamptz, service text, server_key boolean, refused boolean)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT i.endpoint, i.opened_at, i.service, i.server_key, i.state = 'refused'
    FROM issuance i
    WHERE i.account_id = of_account AND i.endpoint <= of_endpoint
      AND (i.endpoint, i.opened_at) > (of_endpoint, now() - interval '24 hours')
      AND i.opened_at - interval '1 hour' < now()
      AND (NOT i.settled OR (i.state = 'unknown' AND i.current)
           OR i.state IN ('issued', 'delivered', 'abandoned', 'bad', 'refused'));
END;
