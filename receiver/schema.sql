-- From lines to records. A line goes into `lines`, which keeps nothing; what follows is done by materialized views, so
-- that it does not matter who inserts: `receive load`, a Kafka table, an S3 table. Every table takes the same line twice
-- and counts it once. The function recognise(body), made from the profiles, comes first: `receive schema` prints both.
-- On a cluster, say ReplicatedReplacingMergeTree and ON CLUSTER; docs/receiving.md has the lines.

CREATE TABLE IF NOT EXISTS lines (line String) ENGINE = Null;

-- What arrived, as it came. `request` is nginx's own random number for a request, not the sender's id.
CREATE TABLE IF NOT EXISTS raw (
    request FixedString(16),
    time DateTime64(3, 'UTC'),
    version LowCardinality(String),
    body String CODEC(ZSTD(3)),
    torn Bool
) ENGINE = ReplacingMergeTree ORDER BY request PARTITION BY toMonday(time)
TTL toDateTime(time) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1;

-- A line that is not one of ours is what a crash left of one; no request is guessed from it.
CREATE MATERIALIZED VIEW IF NOT EXISTS raw_from_lines TO raw AS
WITH
    JSONExtract(line, 'Tuple(time Float64, request String, version String, body String)') AS parsed,
    match(parsed.request, '^[0-9a-f]{32}$') AND parsed.time > 0 AND parsed.time < 4e9 AS whole
SELECT
    if(whole, unhex(parsed.request), reinterpretAsFixedString(sipHash128(line)))::FixedString(16) AS request,
    if(whole, toDateTime64(parsed.time, 3, 'UTC'), now64(3, 'UTC')) AS time,
    if(whole, parsed.version, '') AS version,
    if(whole, parsed.body, line) AS body,
    NOT whole AS torn
FROM lines
WHERE line != '';

CREATE TABLE IF NOT EXISTS recognised (
    request FixedString(16), time DateTime64(3, 'UTC'), body String, torn Bool, fields Array(String)
) ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS recognised_from_raw TO recognised AS
SELECT request, time, body, torn, if(torn, [], recognise(body)) AS fields FROM raw;

-- One row an id: what arrived first counts. A profile without an id has the same id for the same bytes.
CREATE TABLE IF NOT EXISTS records (
    profile LowCardinality(String),
    event LowCardinality(String),
    id UUID,
    time DateTime64(3, 'UTC'),
    instance String CODEC(ZSTD(3)),
    product LowCardinality(String),
    version LowCardinality(String),
    os LowCardinality(String),
    arch LowCardinality(String),
    deployment LowCardinality(String),
    ci Bool,
    precedence UInt64
) ENGINE = ReplacingMergeTree(precedence) ORDER BY (profile, id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS records_from_recognised TO records AS
SELECT
    fields[1] AS profile,
    fields[2] AS event,
    if(fields[3] = '', reinterpretAsUUID(sipHash128(body)), toUUIDOrZero(fields[3])) AS id,
    time,
    if(fields[4] = '', toString(id), fields[4]) AS instance,
    if(fields[5] = '', profile, fields[5]) AS product,
    fields[6] AS version,
    fields[7] AS os,
    fields[8] AS arch,
    fields[9] AS deployment,
    fields[10] = 'true' AS ci,
    4000000000000 - toUnixTimestamp64Milli(time) AS precedence
FROM recognised
WHERE notEmpty(fields);

-- What is no record, kept apart and counted.
CREATE TABLE IF NOT EXISTS rejected (
    request FixedString(16), time DateTime64(3, 'UTC'), reason LowCardinality(String), body String CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree ORDER BY request PARTITION BY toMonday(time)
TTL toDateTime(time) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS rejected_from_recognised TO rejected AS
SELECT
    request,
    time,
    multiIf(
        torn, 'torn line', empty(body), 'empty', NOT isValidJSON(body), 'not JSON', 'no record of a known profile'
    ) AS reason,
    body
FROM recognised
WHERE empty(fields);

-- How far each file of the spool is loaded, in bytes: only what `receive load` reads.
CREATE TABLE IF NOT EXISTS loaded (file String, bytes UInt64)
ENGINE = ReplacingMergeTree(bytes) ORDER BY file
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
