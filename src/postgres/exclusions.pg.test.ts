/** What versions.ts leaves out of a base backup, against what pg_basebackup leaves out. */
import assert from 'node:assert/strict'
import { chownSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { runChecked } from '../../test/harness/run-program.ts'
import { POSTGRES_VERSIONS } from './versions.ts'

for (const version of POSTGRES_VERSIONS) {
  const { major, exclusions } = version
  // pg_basebackup serves older servers, so the newest one here will do.
  const tool = [major, 18, 17, 16, 15].map((from) => findTool('pg_basebackup', from)).find(Boolean)
  const skip = tool === undefined && 'no pg_basebackup here'
  test(`PostgreSQL ${major}: pg_basebackup leaves out what the table says`, { skip }, async () => {
    await using server = await startPostgres({ major, embedded: true })
    // Reserved names that the server itself writes during the backup are not made here.
    const own = ['backup_label', 'tablespace_map', 'backup_manifest', 'postmaster.pid']
    const left = exclusions.files.filter((name) => !own.includes(name))
    const inside = exclusions.directoryContents.map((name) => `${name}/anything`)
    const prefixed = exclusions.prefixes.flatMap((name) => [`base/1/${name}.7`, `global/${name}x`])
    const walInside = exclusions.walDirectories.map((name) => `pg_wal/${name}/anything`)
    const kept = ['anything', 'base/1/anything', 'pg_xact/anything', 'pg_stat/anything']
    for (const path of [...left, ...inside, ...prefixed, ...walInside, ...kept]) place(server, path)
    const copy = join(server.socketDirectory, 'copy')
    await runChecked(
      tool ?? '',
      [
        '-D',
        copy,
        '-X',
        'none',
        '-c',
        'fast',
        '-h',
        server.socketDirectory,
        '-p',
        String(server.port),
        '-U',
        server.user,
      ],
      { runAs: server.runAs },
    )
    for (const path of [...left, ...inside, ...prefixed, ...walInside]) {
      assert.ok(!existsSync(join(copy, path)), path)
    }
    for (const path of kept) assert.ok(existsSync(join(copy, path)), path)
    assert.ok(!existsSync(join(copy, 'postmaster.pid')))
    for (const name of [...exclusions.directoryContents, 'pg_wal']) {
      assert.ok(existsSync(join(copy, name)), name)
    }
    assert.deepEqual(readdirSync(join(copy, 'pg_wal')).sort(), [...exclusions.walDirectories])
  })
}

function place(server: PostgresServer, path: string): void {
  const full = join(server.dataDirectory, path)
  if (existsSync(full)) return
  mkdirSync(dirname(full), { recursive: true })
  writeFileSync(full, 'x')
  if (server.runAs !== undefined) chownSync(full, server.runAs.uid, server.runAs.gid)
}
