import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { createManifestWriter, type ManifestFile } from './backup-manifest.ts'
import { lsn } from './lsn.ts'

const AT = new Date('2026-11-20T14:05:00.999Z')
const RANGE = { timeline: 2, startLsn: lsn(0x200000028n), endLsn: lsn(0x200000100n) }

function write(version: 1 | 2, files: Iterable<ManifestFile>): Buffer[] {
  const pieces: Buffer[] = []
  const options = { version, systemIdentifier: 7_300_000_000_000_000_001n }
  const writer = createManifestWriter(options, (bytes) => pieces.push(Buffer.from(bytes)))
  for (const file of files) writer.addFile(file)
  writer.finish([RANGE])
  return pieces
}

test('a manifest is JSON with the fields of its version', () => {
  const files: ManifestFile[] = [
    {
      path: 'PG_VERSION',
      sizeBytes: 3,
      modifiedAt: AT,
      checksum: { algorithm: 'CRC32C', value: 0xe3069283 },
    },
    { path: 'a "b"\\\n', sizeBytes: 0, modifiedAt: AT },
    {
      path: Uint8Array.of(0x61, 0xff),
      sizeBytes: 1,
      modifiedAt: AT,
      checksum: { algorithm: 'SHA256', value: new Uint8Array(32).fill(0xab) },
    },
  ]
  const text = Buffer.concat(write(1, files)).toString()
  const common = { 'Last-Modified': '2026-11-20 14:05:00 GMT' }
  assert.deepEqual(JSON.parse(text), {
    'PostgreSQL-Backup-Manifest-Version': 1,
    Files: [
      {
        Path: 'PG_VERSION',
        Size: 3,
        ...common,
        'Checksum-Algorithm': 'CRC32C',
        Checksum: '839206e3',
      },
      { Path: 'a "b"\\\n', Size: 0, ...common },
      {
        'Encoded-Path': '61ff',
        Size: 1,
        ...common,
        'Checksum-Algorithm': 'SHA256',
        Checksum: 'ab'.repeat(32),
      },
    ],
    'WAL-Ranges': [{ Timeline: 2, 'Start-LSN': '2/28', 'End-LSN': '2/100' }],
    'Manifest-Checksum': sha256BeforeLastLine(text),
  })
  const second = Buffer.concat(write(2, [])).toString()
  assert.match(second, /"System-Identifier": 7300000000000000001,/)
  assert.equal(JSON.parse(second)['Manifest-Checksum'], sha256BeforeLastLine(second))
})

function sha256BeforeLastLine(text: string): string {
  const end = text.lastIndexOf('\n', text.length - 2) + 1
  return createHash('sha256').update(text.slice(0, end)).digest('hex')
}

test('many files come in small pieces', () => {
  const files = Array.from({ length: 20_000 }, (_, index) => ({
    path: `base/5/${16384 + index}`,
    sizeBytes: 8192,
    modifiedAt: AT,
  }))
  const pieces = write(2, files)
  assert.ok(pieces.length > 10)
  assert.ok(pieces.every((piece) => piece.length < 70_000))
  assert.equal(JSON.parse(Buffer.concat(pieces).toString()).Files.length, files.length)
})
