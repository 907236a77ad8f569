/** Manifests of whole data directories, judged by PostgreSQL's own pg_verifybackup. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import {
  SAMPLED_MAJORS,
  type PostgresServer,
  startPostgres,
} from '../../test/harness/postgres-server.ts'
import { createManifestWriter, type ManifestChecksum } from './backup-manifest.ts'
import { readControlFile } from './control-file.ts'
import { crc32c } from './crc32c.ts'
import { lsn } from './lsn.ts'
import { POSTGRES_VERSIONS } from './versions.ts'

for (const major of SAMPLED_MAJORS) {
  const tool = findTool('pg_verifybackup', major)
  const skip = tool === undefined && `no pg_verifybackup for PostgreSQL ${major} here`
  for (const algorithm of ['CRC32C', 'SHA256'] as const) {
    test(`PostgreSQL ${major}: pg_verifybackup accepts ${algorithm}`, { skip }, async () => {
      await using server = await startPostgres({ major, embedded: true })
      await server.stop()
      const { control } = await readControlFile(server.dataDirectory)
      writeManifest(server, algorithm, control.systemIdentifier)
      const verify = () => server.tool('pg_verifybackup', ['-n', server.dataDirectory])
      await verify()
      appendFileSync(join(server.dataDirectory, 'PG_VERSION'), ' ')
      await assert.rejects(verify(), /PG_VERSION/)
    })
  }
}

function writeManifest(
  server: PostgresServer,
  algorithm: ManifestChecksum['algorithm'],
  systemIdentifier: bigint,
): void {
  const root = server.dataDirectory
  const version = POSTGRES_VERSIONS.find((entry) => entry.major === server.major)?.manifestVersion
  const manifest = openSync(join(root, 'backup_manifest'), 'w')
  const writer = createManifestWriter({ version: version ?? 1, systemIdentifier }, (bytes) =>
    writeSync(manifest, bytes),
  )
  for (const path of listFiles(root)) {
    if (path === 'backup_manifest' || path.startsWith('pg_wal/')) continue
    const bytes = readFileSync(join(root, path))
    const { mtime, size } = statSync(join(root, path))
    const checksum = checksumOf(algorithm, bytes)
    // A path as bytes goes through Encoded-Path.
    const written = path === 'PG_VERSION' ? Buffer.from(path) : path
    writer.addFile({ path: written, sizeBytes: size, modifiedAt: mtime, checksum })
  }
  writer.finish([{ timeline: 1, startLsn: lsn(0x1000028n), endLsn: lsn(0x1000100n) }])
  closeSync(manifest)
}

function checksumOf(algorithm: ManifestChecksum['algorithm'], bytes: Uint8Array): ManifestChecksum {
  if (algorithm === 'CRC32C') return { algorithm, value: crc32c(bytes) }
  return { algorithm, value: createHash('sha256').update(bytes).digest() }
}

function listFiles(root: string): string[] {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
}
