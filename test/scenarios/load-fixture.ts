/** A server with databases full of everything, dumps of them, and a second server to load into. */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Storage } from '../../src/storage/storage.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { type TidemarkResult, startTidemark, tidemark } from '../harness/tidemark.ts'
import { newRepository } from './backup-fixture.ts'

/** Three roles, two tablespaces, and of most kinds of objects one. */
export const ROLES = `CREATE ROLE owner_one; CREATE ROLE "Röle Two" LOGIN; CREATE ROLE keeper`

export const EVERYTHING = `
  CREATE SCHEMA "Mixed Case";
  GRANT USAGE ON SCHEMA "Mixed Case" TO PUBLIC;
  CREATE EXTENSION IF NOT EXISTS plpgsql;
  CREATE TYPE "Mixed Case".mood AS ENUM ('sad', 'it''s', 'ok');
  CREATE DOMAIN public.positive AS int CHECK (VALUE > 0);
  CREATE TYPE public.pair AS (a int, "B b" text);
  CREATE TABLE "Mixed Case"."Ta""ble; x" (
    id bigserial PRIMARY KEY, m "Mixed Case".mood, p public.positive, q public.pair);
  INSERT INTO "Mixed Case"."Ta""ble; x" (m, p, q)
    SELECT 'it''s', g, (g, E'tab\\t\\\\ "' || g)::public.pair FROM generate_series(1, 2000) g;
  ALTER TABLE "Mixed Case"."Ta""ble; x" OWNER TO owner_one;
  CREATE TABLE public.types (
    a smallint, b numeric(40, 20), c real, d float8, e money, f text, g varchar(9), h char(4),
    i bytea, j timestamptz, k interval, l date, m timetz, n bool, o point, p polygon, q inet,
    r cidr, s macaddr, t bit(5), u varbit, v tsvector, w tsquery, x uuid, y xml, z json,
    aa jsonb, ab int[], ac text[][], ad int4range, ae tstzrange, af pg_lsn, ag box, ah circle,
    ai path, aj lseg, ak oid, al name, am "char");
  INSERT INTO public.types VALUES (
    -32768, 12345678901234567890.12345678901234567890, 'NaN', 1e-300, 12.34,
    E'a\\nb\\r\\\\.', '', 'x',
    '\\x00ff5c0a', '2026-11-22 08:00:00.123456+02', '1 year -3 days 04:05:06.7', '4713-01-01 BC',
    '10:11:12+05:30', true, '(1,2)', '((0,0),(1,1),(2,0))', '::1/64', '10.0.0.0/8',
    '08:00:2b:01:02:03', B'10101', B'1', 'a:1 b:2', 'a & b', '00000000-0000-0000-0000-00000000000a',
    '<a>x</a>', '{"a": 1}', '{"b": [null, "ü"]}', '{1,NULL,3}', '{{a,b},{c,"d e"}}', '[1,5)',
    '[2026-01-01,)', '16/B374D848', '((0,0),(1,1))', '<(0,0),2>', '[(0,0),(1,1)]', '[(0,0),(1,1)]',
    7, 'n', 'c');
  INSERT INTO public.types (f, g) VALUES (NULL, NULL), ('', '');
  CREATE TABLE public.part (id int, at date, v text) PARTITION BY RANGE (id);
  CREATE TABLE public.part_1 PARTITION OF public.part FOR VALUES FROM (0) TO (500);
  CREATE TABLE public.part_2 PARTITION OF public.part FOR VALUES FROM (500) TO (1000)
    PARTITION BY LIST (v);
  CREATE TABLE public.part_2a PARTITION OF public.part_2 DEFAULT;
  CREATE INDEX part_v ON public.part (v);
  INSERT INTO public.part SELECT g, '2026-01-01'::date + g, 'v' || g % 7
    FROM generate_series(0, 999) g;
  CREATE TABLE public.child (
    id int PRIMARY KEY, parent bigint REFERENCES "Mixed Case"."Ta""ble; x" (id),
    d int GENERATED ALWAYS AS (id * 2) STORED, n int GENERATED ALWAYS AS IDENTITY,
    EXCLUDE USING btree (n WITH =), CHECK (id > -5));
  INSERT INTO public.child (id, parent) SELECT g, g FROM generate_series(1, 500) g;
  CREATE STATISTICS public.st (dependencies) ON id, parent FROM public.child;
  CREATE VIEW public."View" AS SELECT * FROM public.part WHERE v <> 'v3';
  CREATE MATERIALIZED VIEW public.mv AS SELECT v, count(*) FROM public.part GROUP BY v;
  CREATE UNIQUE INDEX ON public.mv (v);
  CREATE FUNCTION public.f(a int, b text DEFAULT 'x; GRANT y TO nobody_at_all;') RETURNS int
    LANGUAGE plpgsql AS $f$ BEGIN RETURN a; -- ALTER TABLE x OWNER TO nobody_at_all;
    END $f$;
  CREATE FUNCTION public.tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
  CREATE TRIGGER "Trig" BEFORE UPDATE ON public.child FOR EACH ROW EXECUTE FUNCTION public.tr();
  CREATE AGGREGATE public.agg (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
  CREATE RULE ru AS ON DELETE TO public.child DO INSTEAD NOTHING;
  CREATE SEQUENCE public.seq START 5 INCREMENT 3;
  SELECT nextval('public.seq'), nextval('public.seq');
  ALTER TABLE public.types ENABLE ROW LEVEL SECURITY;
  CREATE POLICY pol ON public.types AS RESTRICTIVE FOR SELECT TO "Röle Two", owner_one
    USING (f <> ' TO nobody_at_all');
  GRANT SELECT (a), UPDATE (b) ON public.types TO "Röle Two" WITH GRANT OPTION;
  REVOKE ALL ON FUNCTION public.f FROM PUBLIC;
  ALTER DEFAULT PRIVILEGES FOR ROLE owner_one GRANT SELECT ON TABLES TO "Röle Two";
  COMMENT ON TABLE public.types IS 'it''s; a "comment" -- here';
  COMMENT ON COLUMN public.types.a IS E'two\\nlines';
  CREATE COLLATION public.coll FROM "C";
  CREATE CAST (public.pair AS text) WITH INOUT;
  CREATE PUBLICATION pub FOR TABLE public.child;
  CREATE FUNCTION public.etr() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
  CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION public.etr();
  SELECT lo_from_bytea(700001, '\\x0001feff'), lo_create(700002);
  ALTER LARGE OBJECT 700001 OWNER TO owner_one;
  COMMENT ON LARGE OBJECT 700001 IS 'large';
  CREATE TABLE public."two
lines" (x int)`

export class LoadFixture {
  readonly base: string
  readonly config: string
  readonly storage: Storage
  readonly source: PostgresServer
  readonly target: PostgresServer

  private constructor(parts: Pick<LoadFixture, 'base' | 'storage' | 'source' | 'target'>) {
    this.base = parts.base
    this.storage = parts.storage
    this.source = parts.source
    this.target = parts.target
    this.config = join(parts.base, 'tidemark.yaml')
    writeFileSync(
      this.config,
      `repositories:\n  local: { url: "${parts.storage.url}" }\n` +
        `clusters:\n  main:\n    connection: "${parts.source.url()}"\n`,
    )
    chmodSync(this.config, 0o644)
  }

  static async start(majors: { source: number; target: number }): Promise<LoadFixture> {
    const base = temporaryDirectory(undefined, 'tidemark-load-test-')
    const storage = await newRepository(join(base, 'repository'))
    const source = await startPostgres({ major: majors.source })
    const target = await startPostgres({ major: majors.target })
    return new LoadFixture({ base, storage, source, target })
  }

  /** `words` behind `load`; for the target server unless they name another --into. */
  async load(words: readonly string[]): Promise<TidemarkResult> {
    return await tidemark(['--config', this.config, '--json', 'load', ...words], {
      env: { TMPDIR: this.base },
    })
  }

  start(words: readonly string[]) {
    return startTidemark(['--config', this.config, '--json', 'load', ...words], {
      env: { TMPDIR: this.base },
    })
  }

  async dispose(): Promise<void> {
    await this.source.dispose()
    await this.target.dispose()
    await this.storage.close()
    await removeDirectory(this.base)
  }
}

/** Rows of every table, in no order: a checksum for each. */
export async function readChecksums(
  server: PostgresServer,
  database: string,
): Promise<Record<string, string>> {
  const tables = await server.sql<{ name: string }>(
    `SELECT c.oid::regclass::text AS name
       FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind IN ('r', 'm')
        AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
      ORDER BY 1`,
    [],
    database,
  )
  const sums: Record<string, string> = {}
  for (const { name } of tables) {
    const [row] = await server.sql<{ sum: string }>(
      `SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) AS sum
         FROM ${name} t`,
      [],
      database,
    )
    sums[name] = row?.sum ?? ''
  }
  const [large] = await server.sql<{ sum: string }>(
    `SELECT coalesce(string_agg(oid || ' ' || md5(lo_get(oid)), ',' ORDER BY oid), '') AS sum
       FROM pg_largeobject_metadata`,
    [],
    database,
  )
  sums['large objects'] = large?.sum ?? ''
  return sums
}
