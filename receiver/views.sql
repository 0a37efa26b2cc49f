-- What is counted. An install is one (product, instance), whatever it sends and however often; its latest record says
-- its version, OS and so on, so that every view below adds up to the same number.

CREATE OR REPLACE VIEW records_once AS SELECT * FROM records FINAL;

CREATE OR REPLACE VIEW installs AS
SELECT
    profile,
    product,
    instance,
    min(time) AS first_seen,
    max(time) AS last_seen,
    argMaxIf(records_once.version, (time, id), records_once.version != '') AS version,
    argMaxIf(records_once.os, (time, id), records_once.os != '') AS os,
    argMaxIf(records_once.arch, (time, id), records_once.arch != '') AS arch,
    -- Some products say only whether they are in a container.
    transform(
        argMaxIf(records_once.deployment, (time, id), records_once.deployment != ''),
        ['true', 'false'], ['container', 'no container']
    ) AS deployment,
    max(ci) AS ci,
    count() AS records
FROM records_once
GROUP BY profile, product, instance;

CREATE OR REPLACE VIEW installs_by_product AS
SELECT product, count() AS installs, sum(records) AS records, countIf(ci) AS ci
FROM installs GROUP BY product ORDER BY installs DESC, product;

CREATE OR REPLACE VIEW installs_by_version AS
SELECT product, version, count() AS installs FROM installs GROUP BY product, version ORDER BY installs DESC, product, version;

CREATE OR REPLACE VIEW installs_by_os AS
SELECT product, os, count() AS installs FROM installs GROUP BY product, os ORDER BY installs DESC, product, os;

-- Node's names of processors are put beside the kernel's.
CREATE OR REPLACE VIEW installs_by_arch AS
SELECT product, transform(splitByChar(' ', arch)[1] AS name, ['x64', 'arm64'], ['x86_64', 'aarch64'], name) AS arch, count() AS installs
FROM installs GROUP BY product, arch ORDER BY installs DESC, product, arch;

CREATE OR REPLACE VIEW installs_by_deployment AS
SELECT product, deployment, count() AS installs
FROM installs GROUP BY product, deployment ORDER BY installs DESC, product, deployment;

-- New: its first record is of that week. Weeks begin on Monday, in UTC, by the receiver's clock.
CREATE OR REPLACE VIEW new_installs_by_week AS
SELECT product, toMonday(first_seen) AS week, count() AS installs FROM installs GROUP BY product, week ORDER BY week, product;

-- Seen: it sent anything in that week.
CREATE OR REPLACE VIEW seen_installs_by_week AS
SELECT product, toMonday(time) AS week, uniqExact(instance) AS installs FROM records_once GROUP BY product, week ORDER BY week, product;

-- An install that reports another version than the time before, back to an older one included.
CREATE OR REPLACE VIEW upgrades AS
SELECT product, instance, time, before, version
FROM (
    SELECT product, instance, time, version, lagInFrame(version) OVER (
        PARTITION BY profile, product, instance ORDER BY time, id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
    ) AS before
    FROM records_once
    WHERE version != ''
)
WHERE before != '' AND before != version;

CREATE OR REPLACE VIEW upgrades_by_version AS
SELECT product, concat(before, ' → ', version) AS step, uniqExact(instance) AS installs
FROM upgrades GROUP BY product, step ORDER BY installs DESC, product, step;

-- Every request that raw lines are still kept of (30 days): a record, one again, or none and why.
CREATE OR REPLACE VIEW requests AS
SELECT kind, count FROM (
    SELECT 'requests' AS kind, uniqExact(request) AS count, 1 AS place FROM raw
    UNION ALL SELECT 'records' AS kind, count() AS count, 2 AS place FROM records_once
    WHERE time >= (SELECT min(time) FROM raw)
    UNION ALL SELECT 'sent again' AS kind, (SELECT uniqExact(request) FROM raw) - (SELECT uniqExact(request) FROM rejected)
        - (SELECT count() FROM records_once WHERE time >= (SELECT min(time) FROM raw)) AS count, 3 AS place
    UNION ALL SELECT concat('rejected: ', reason) AS kind, uniqExact(request) AS count, 4 AS place FROM rejected GROUP BY reason
) ORDER BY place, kind;
