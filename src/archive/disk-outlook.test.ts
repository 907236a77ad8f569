/** How long the disk of pg_wal lasts. */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import {
  beforeNewest,
  describeDiskOutlook,
  estimateWalRate,
  judgeDiskOutlook,
  NOTHING_WAITS,
  readDiskOutlook,
} from './disk-outlook.ts'

const MB = 1024 * 1024
const NOW = 1_800_000_000_000
const minutesAgo = (minutes: number) => ({
  name: '',
  bytes: 16 * MB,
  completedMs: NOW - minutes * 60_000,
})

test('the rate is what came after the oldest segment of the last hour, by the time since', () => {
  assert.equal(estimateWalRate([], NOW), undefined)
  assert.equal(estimateWalRate([minutesAgo(5)], NOW), undefined)
  const rate = estimateWalRate([minutesAgo(2), minutesAgo(10), minutesAgo(6)], NOW)
  assert.equal(rate, (32 * MB) / 600)
  const old = [minutesAgo(600), minutesAgo(300), ...[20, 10].map(minutesAgo)]
  assert.equal(estimateWalRate(old, NOW), (16 * MB) / 1200, 'what is older says nothing of today')
  const ahead = [minutesAgo(-5), minutesAgo(-4)]
  assert.equal(estimateWalRate(ahead, NOW), undefined, 'a clock that was set back')
})

test('a burst of seconds counts as that of a minute', () => {
  const burst = [0.05, 0.04, 0.03, 0.02].map(minutesAgo)
  assert.equal(estimateWalRate(burst, NOW), (48 * MB) / 60)
})

test('free space by the rate', () => {
  assert.equal(judgeDiskOutlook(600 * MB, MB, NOTHING_WAITS).secondsLeft, 600)
  assert.equal(judgeDiskOutlook(600 * MB, undefined, NOTHING_WAITS).secondsLeft, undefined)
  assert.equal(judgeDiskOutlook(600 * MB, 0, NOTHING_WAITS).secondsLeft, undefined)
  assert.equal(
    describeDiskOutlook(judgeDiskOutlook(12 * 1024 * MB, 1.5 * MB, NOTHING_WAITS)),
    '12 GiB are free for pg_wal, which lasts about 2 h at 1.5 MiB/s',
  )
  assert.equal(
    describeDiskOutlook(judgeDiskOutlook(512, undefined, NOTHING_WAITS)),
    '512 B are free for pg_wal',
  )
})

test('it is read from the segments that are complete', async () => {
  const data = temporaryDirectory()
  const wal = join(data, 'pg_wal')
  mkdirSync(join(wal, 'archive_status'), { recursive: true })
  const names = ['000000010000000000000001', '000000010000000000000002']
  for (const [index, name] of names.entries()) {
    writeFileSync(join(wal, name), Buffer.alloc(MB))
    const at = new Date(Date.now() - (10 - index) * 60_000)
    utimesSync(join(wal, name), at, at)
    writeFileSync(join(wal, 'archive_status', `${name}.${index === 0 ? 'done' : 'ready'}`), '')
  }
  writeFileSync(join(wal, 'archive_status', '00000002.history.ready'), '')
  // Recycled for later use: its time says nothing.
  writeFileSync(join(wal, '000000010000000000000003'), Buffer.alloc(MB))
  const outlook = await readDiskOutlook(data)
  const { waiting, waitingSegments, waitingBytes } = outlook ?? NOTHING_WAITS
  assert.deepEqual([waiting, waitingSegments, waitingBytes], [2, 1, MB])
  const rate = outlook?.walBytesPerSecond ?? 0
  assert.ok(Math.abs(rate / (MB / 600) - 1) < 0.05, String(rate))
  assert.ok((outlook?.freeBytes ?? 0) > 0)
  rmSync(wal, { recursive: true })
  assert.equal(await readDiskOutlook(data), undefined)
})

test('where the server archives nothing, all but the newest and the recycled are complete', () => {
  const segment = (name: string, minutes: number) => ({ ...minutesAgo(minutes), name })
  const found = beforeNewest([
    segment('000000010000000000000005', 300),
    segment('000000010000000000000004', 0),
    segment('000000010000000000000003', 2),
    segment('000000010000000000000002', 5),
  ])
  assert.deepEqual(
    found.map(({ completedMs }) => (NOW - completedMs) / 60_000),
    [2, 5],
  )
  assert.deepEqual(beforeNewest([]), [])
})

test('a server whose WAL is streamed has a rate, too', async () => {
  const data = temporaryDirectory()
  const wal = join(data, 'pg_wal')
  mkdirSync(join(wal, 'archive_status'), { recursive: true })
  for (let number = 1; number <= 4; number++) {
    const path = join(wal, `00000001000000000000000${number}`)
    writeFileSync(path, Buffer.alloc(MB))
    const at = new Date(Date.now() - (4 - number) * 5 * 60_000)
    utimesSync(path, at, at)
  }
  const outlook = await readDiskOutlook(data)
  const rate = outlook?.walBytesPerSecond ?? 0
  assert.ok(Math.abs(rate / ((2 * MB) / 900) - 1) < 0.05, String(rate))
  assert.equal(outlook?.waiting, 0)
})
