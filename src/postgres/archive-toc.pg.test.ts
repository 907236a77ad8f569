import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { startPostgres, type PostgresServer } from '../../test/harness/postgres-server.ts'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { runChecked } from '../../test/harness/run-program.ts'
import { isFailure } from '../base/failure.ts'
import {
  type ArchiveFormat,
  type ArchiveToc,
  ArchiveTocReader,
  makesAnObject,
} from './archive-toc.ts'
import { CustomArchiveReader } from './archive-blocks.ts'
import { TarArchiveReader } from './archive-tar.ts'

const SCHEMA = `
  CREATE ROLE "Ann O'Nym";
  CREATE SCHEMA "Mixed Case";
  CREATE TYPE "Mixed Case".mood AS ENUM ('sad', 'ok');
  CREATE TABLE "Mixed Case"."Ta""ble" (id bigserial PRIMARY KEY, m "Mixed Case".mood);
  ALTER TABLE "Mixed Case"."Ta""ble" OWNER TO "Ann O'Nym";
  COMMENT ON TABLE "Mixed Case"."Ta""ble" IS 'it''s; a "comment"';
  INSERT INTO "Mixed Case"."Ta""ble" (m) SELECT 'ok' FROM generate_series(1, 1000);
  CREATE TABLE p (id int, t text) PARTITION BY RANGE (id);
  CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
  CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
  INSERT INTO p SELECT g, repeat('x', g) FROM generate_series(0, 199) g;
  CREATE INDEX ON p (t);
  CREATE VIEW v AS SELECT * FROM p;
  CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM p;
  CREATE FUNCTION f(a int, b text DEFAULT 'x, y') RETURNS int LANGUAGE sql AS 'SELECT 1';
  CREATE TABLE c (id int REFERENCES "Mixed Case"."Ta""ble" (id), "naïve 表" text);
  CREATE POLICY one ON c USING (id > 1);
  GRANT SELECT ON c TO PUBLIC;
  CREATE TABLE "two
lines" ();
  SELECT lo_create(g) FROM generate_series(70001, 70003) g;
  SELECT lo_put(70001, 0, 'abc');
  ALTER DATABASE postgres SET work_mem = '5MB';
  COMMENT ON DATABASE postgres IS 'x';
  CREATE PUBLICATION pub FOR TABLE c;`

for (const major of [15, 17, 18]) {
  const dump = findTool('pg_dump', major)
  test(`what pg_dump ${major} writes reads as pg_restore --list does`, {
    skip: dump === undefined ? `no pg_dump ${major} here` : false,
  }, async (t) => {
    await using server = await startPostgres({ major })
    await server.sql(SCHEMA)
    const bin = dirname(dump as string)
    for (const format of ['custom', 'directory', 'tar'] as const) {
      for (const extra of [[], ['--data-only'], ['--section=post-data'], ['-Z0'], ['--create']]) {
        if (format === 'tar' && extra[0] === '-Z0') continue
        await t.test(`${format} ${extra.join(' ')}`, async () => {
          await compareWithList(server, bin, format, extra)
        })
      }
    }
    await t.test('an archive of the custom format is whole only to its last byte', async () => {
      for (const extra of [
        ['--compress=0'],
        ['--compress=5'],
        ['--section=pre-data'],
        ['-t', 'p*'],
      ]) {
        const bytes = await readFile(await dumpTo(server, bin, 'custom', extra))
        for (const size of [13, 65536]) {
          assert.deepEqual(readWhole(bytes, size), readCustom(bytes, bytes.length))
        }
        const reader = new ArchiveTocReader({ format: 'custom' })
        reader.push(bytes)
        const hasData = reader.rest.length > 0
        assert.equal(hasData, extra[0] !== '--section=pre-data')
        const step = Math.max(1, Math.floor(reader.rest.length / 40))
        for (let end = 1; end <= reader.rest.length; end += step) refused(bytes.subarray(0, -end))
        if (hasData) refused(Buffer.concat([bytes, Buffer.of(1)]))
        if (hasData) refused(Buffer.concat([bytes, reader.rest]))
      }
    })
    await t.test('every split of the stream, and every end that is too early', async () => {
      const path = await dumpTo(server, bin, 'custom', ['--schema-only'])
      const bytes = await readFile(path)
      const whole = readCustom(bytes, bytes.length)
      for (const size of [97, 4096]) assert.deepEqual(readCustom(bytes, size), whole)
      const reader = new ArchiveTocReader({ format: 'custom' })
      reader.push(bytes)
      const length = bytes.length - reader.rest.length
      assert.ok(length > 1000)
      for (let end = 0; end < length; end += Math.ceil(length / 40)) {
        assert.throws(
          () => readCustom(bytes.subarray(0, end), 65536),
          (error) => isFailure(error, 'TM2005'),
        )
      }
    })
  })
}

async function dumpTo(
  server: PostgresServer,
  bin: string,
  format: ArchiveFormat,
  extra: readonly string[],
): Promise<string> {
  const path = join(temporaryDirectory(server.runAs, 'toc-'), 'dump')
  const args = [`--format=${format}`, `--file=${path}`, ...extra, '-d', 'postgres']
  await runChecked(join(bin, 'pg_dump'), args, {
    runAs: server.runAs,
    env: { PGHOST: server.socketDirectory, PGPORT: String(server.port), PGUSER: server.user },
  })
  return path
}

async function compareWithList(
  server: PostgresServer,
  bin: string,
  format: ArchiveFormat,
  extra: readonly string[],
): Promise<void> {
  const path = await dumpTo(server, bin, format, extra)
  const toc = await readToc(path, format)
  const options = { runAs: server.runAs }
  const listed = await runChecked(join(bin, 'pg_restore'), ['--list', '--create', path], options)
  const lines = listed.stdout.split('\n').filter((line) => /^\d+;/.test(line))
  assert.ok(lines.length > 0)
  assert.deepEqual(toc.entries.filter(makesAnObject).map(formatAsList), lines)
  assert.equal(toc.encoding, 'UTF8')
  assert.equal(toc.head.database, 'postgres')
  const count = /TOC Entries: (\d+)/.exec(listed.stdout)?.[1]
  // It counts those that make nothing too.
  assert.ok(Number(count) >= lines.length)
  assert.match(listed.stdout, new RegExp(`Dump Version: ${toc.head.version.replace('.', '\\.')}-`))
  assert.ok(listed.stdout.includes(`Dumped by pg_dump version: ${toc.head.toolVersion}`))
}

/** As PrintTOCSummary() writes it. */
function formatAsList(entry: ArchiveToc['entries'][number]): string {
  const plain = (text: string): string => (text === '' ? '-' : text.replaceAll(/[\r\n]/g, ' '))
  const { dumpId, catalogueOid, oid, kind, schema, name, owner } = entry
  const words = [kind, plain(schema), plain(name), owner.replaceAll(/[\r\n]/g, ' ')]
  return `${dumpId}; ${catalogueOid} ${oid} ${words.join(' ')}`
}

async function readToc(path: string, format: ArchiveFormat): Promise<ArchiveToc> {
  if (format === 'custom') return readCustom(await readFile(path), 65536)
  const isTar = format === 'tar'
  const reader = isTar ? new TarArchiveReader() : new ArchiveTocReader({ format })
  const bytes = await readFile(isTar ? path : join(path, 'toc.dat'))
  for (let at = 0; at < bytes.length; at += 333) reader.push(bytes.subarray(at, at + 333))
  if (reader instanceof ArchiveTocReader) assert.equal(reader.rest.length, 0)
  return reader.finish()
}

function readCustom(bytes: Buffer, size: number): ArchiveToc {
  const reader = new ArchiveTocReader({ format: 'custom' })
  for (let at = 0; at < bytes.length; at += size) {
    if (reader.push(bytes.subarray(at, at + size))) break
  }
  return reader.finish()
}

function readWhole(bytes: Buffer, size: number): ArchiveToc {
  const reader = new CustomArchiveReader()
  for (let at = 0; at < bytes.length; at += size) reader.push(bytes.subarray(at, at + size))
  return reader.finish()
}

function refused(bytes: Buffer): void {
  assert.throws(
    () => readWhole(bytes, 65536),
    (error) => isFailure(error, 'TM2005'),
  )
}
