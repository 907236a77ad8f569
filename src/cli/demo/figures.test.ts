import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatFigures, parseBackups } from './figures.ts'

test('figures come from the fields of `list --json`', () => {
  const [full, incremental] = parseBackups({
    backups: [
      { id: 'a', sizeBytes: 10_485_760, readBytes: 1, storedBytes: 2_097_152, durationMs: 500 },
      { id: 'b', sizeBytes: 10_485_760, readBytes: 1, storedBytes: 20_971, durationMs: 100 },
    ],
  })
  assert.ok(full !== undefined && incremental !== undefined)
  assert.equal(full.bytesPerSecond, 20_971_520)
  const lines = formatFigures({
    serverVersion: '15',
    fullBackup: full,
    incrementalBackup: incremental,
    target: 'before:xid:7',
    exposureMs: 1234,
    exposureLimitSeconds: 60,
    recoveryMs: 1500,
    transfersRecovered: 5,
    claims: {},
    totalMs: 20_000,
  }).map(([label, text]) => `${label}: ${text}`)
  assert.equal(lines[0], 'full backup: 10.0 MiB in 0.5 s (20.0 MiB/s), 2.00 MiB stored')
  assert.match(
    lines[1] ?? '',
    /^incremental backup: 0.1 s, 20.5 KiB stored \(1.0 % of the full one/,
  )
  assert.match(lines[3] ?? '', /^time to recover \(RTO\): 1.5 s/)
})
