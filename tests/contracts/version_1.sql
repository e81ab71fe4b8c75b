-- A record store of schema version 1, as the release that had it wrote it: web01 has moved, web02 could not.
BEGIN TRANSACTION;
CREATE TABLE coldmove_events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        migration_uuid TEXT NOT NULL REFERENCES coldmove_migrations (uuid),
        epoch BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('open', 'adopt', 'transition', 'update', 'phase')),
        name TEXT NOT NULL,
        started_at TEXT,
        seconds DOUBLE PRECISION,
        detail TEXT NOT NULL
    );
INSERT INTO "coldmove_events" VALUES(1,'c06d206b-d26c-4944-a92e-b79fd76f2420',1,1.79527768016786622995e+09,'open','accepted',NULL,NULL,'{"dest_host": "node2", "owner": {"controller": "ops1", "pid": 4711}}');
INSERT INTO "coldmove_events" VALUES(2,'c06d206b-d26c-4944-a92e-b79fd76f2420',1,1.79527768023304271699e+09,'transition','pre-migrating',NULL,NULL,'{}');
INSERT INTO "coldmove_events" VALUES(3,'c06d206b-d26c-4944-a92e-b79fd76f2420',1,1.79527768028044629093e+09,'transition','migrating',NULL,NULL,'{}');
INSERT INTO "coldmove_events" VALUES(4,'c06d206b-d26c-4944-a92e-b79fd76f2420',1,1.79527768030801439282e+09,'transition','post-migrating',NULL,NULL,'{}');
INSERT INTO "coldmove_events" VALUES(5,'c06d206b-d26c-4944-a92e-b79fd76f2420',1,1.79527768033245778084e+09,'transition','finished',NULL,NULL,'{}');
INSERT INTO "coldmove_events" VALUES(6,'d211a669-94cb-4c81-903f-e2aeebcaef60',1,1.79527768035515451435e+09,'open','accepted',NULL,NULL,'{"dest_host": "node2", "owner": {"controller": "ops1", "pid": 4711}}');
INSERT INTO "coldmove_events" VALUES(7,'d211a669-94cb-4c81-903f-e2aeebcaef60',1,1795277680.39127,'transition','error',NULL,NULL,'{"error": "no room", "pending_hosts": ["node2"]}');
CREATE TABLE coldmove_migrations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uuid TEXT NOT NULL UNIQUE,
        server_uuid TEXT NOT NULL,
        server_name TEXT NOT NULL,
        migration_type TEXT NOT NULL CHECK (migration_type IN ('migration', 'resize', 'evacuation')),
        status TEXT NOT NULL CHECK (status IN ('accepted', 'pre-migrating', 'migrating', 'post-migrating', 'finished', 'confirming',
            'confirmed', 'reverting', 'reverted', 'error', 'failed', 'done', 'completed')),
        source_host TEXT NOT NULL,
        dest_host TEXT,
        old_flavor TEXT,
        new_flavor TEXT,
        need TEXT NOT NULL,
        source_need TEXT NOT NULL,
        old_power_state TEXT,
        autostart BOOLEAN NOT NULL,
        domain_xml TEXT,
        candidates TEXT NOT NULL,
        rejected TEXT NOT NULL,
        as_of BIGINT NOT NULL,
        files TEXT NOT NULL,
        pending_hosts TEXT NOT NULL,
        reason TEXT,
        started_by TEXT,
        error TEXT,
        owner TEXT NOT NULL,
        owner_since DOUBLE PRECISION NOT NULL,
        epoch BIGINT NOT NULL,
        heartbeat_at DOUBLE PRECISION NOT NULL,
        progress TEXT NOT NULL,
        bytes_total BIGINT,
        bytes_sent BIGINT,
        held_bytes BIGINT,
        downtime_seconds DOUBLE PRECISION,
        created_at DOUBLE PRECISION NOT NULL,
        updated_at DOUBLE PRECISION NOT NULL,
        closed_event BIGINT
    );
INSERT INTO "coldmove_migrations" VALUES(1,'c06d206b-d26c-4944-a92e-b79fd76f2420','6695eb01-f6a4-4304-79aa-97f2502e193f','web01','migration','finished','node1','node2','{}','{}','{"disk_bytes": 1073741824, "memory_mb": 512, "vcpus": 1}','{"disk_bytes": 1073741824, "memory_mb": 512, "vcpus": 1}','running',0,'<domain/>','[{"capacity": {"disk_bytes": 1000000000000, "memory_mb": 8192, "vcpus": 8}, "counted": [], "host": "node2", "used": {"disk_bytes": 0, "memory_mb": 0, "vcpus": 0}}]','[]',0,'[]','[]',NULL,'alice',NULL,'{"controller": "ops1", "pid": 4711}',1.79527768016786622995e+09,1,1.79527768033245778084e+09,'{}',NULL,NULL,NULL,NULL,1.79527768016786622995e+09,1.79527768033245778084e+09,NULL);
INSERT INTO "coldmove_migrations" VALUES(2,'d211a669-94cb-4c81-903f-e2aeebcaef60','0a2d0e25-8a3c-4b2f-9c0b-0a8b8c1a4b11','web02','migration','error','node1','node2','{}','{}','{"disk_bytes": 1073741824, "memory_mb": 512, "vcpus": 1}','{"disk_bytes": 1073741824, "memory_mb": 512, "vcpus": 1}','running',0,'<domain/>','[{"capacity": {"disk_bytes": 1000000000000, "memory_mb": 8192, "vcpus": 8}, "counted": [], "host": "node2", "used": {"disk_bytes": 0, "memory_mb": 0, "vcpus": 0}}]','[]',0,'[]','["node2"]',NULL,'alice','no room','{"controller": "ops1", "pid": 4711}',1.79527768035515451435e+09,1,1795277680.39127,'{}',NULL,NULL,NULL,NULL,1.79527768035515451435e+09,1795277680.39127,7);
CREATE TABLE coldmove_schema (version INTEGER NOT NULL);
INSERT INTO "coldmove_schema" VALUES(1);
CREATE UNIQUE INDEX coldmove_one_active_per_server ON coldmove_migrations (server_uuid)
        WHERE status IN ('accepted', 'pre-migrating', 'migrating', 'post-migrating', 'finished', 'confirming', 'reverting')
    ;
CREATE INDEX coldmove_of_server ON coldmove_migrations (server_uuid);
CREATE INDEX coldmove_closed ON coldmove_migrations (closed_event);
CREATE INDEX coldmove_events_of_migration ON coldmove_events (migration_uuid);
CREATE UNIQUE INDEX coldmove_one_event_per_phase ON coldmove_events (migration_uuid, name, started_at) WHERE kind = 'phase';
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('coldmove_migrations',2);
INSERT INTO "sqlite_sequence" VALUES('coldmove_events',7);
COMMIT;
