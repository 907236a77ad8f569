import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatArchive, type MeasuredArchive } from './format-wal-status.ts'
import { withRequests } from './stream-requests.ts'

const ARCHIVE = {
  name: 'offsite',
  url: 's3://bucket',
  canAppend: false,
  archive: undefined,
  position: undefined,
  writers: [],
  lastMoment: undefined,
  findings: [],
  lag: { bytes: undefined, seconds: undefined },
  rate: undefined,
} as unknown as MeasuredArchive

const plain = new Proxy({}, { get: () => (text: string) => text }) as Parameters<
  typeof formatArchive
>[1]

function stream(flushEveryMs?: number) {
  const walStream = flushEveryMs === undefined ? {} : { flushEveryMs }
  return { walSource: 'stream', walStream } as unknown as Parameters<typeof withRequests>[1]
}

test('a piece every ten seconds is 8640 writes a day, and every 32nd removes the others', () => {
  const { requests } = withRequests(ARCHIVE, stream(), undefined)
  assert.deepEqual(requests?.perDay, { writes: 8640, listings: 0, removals: 270 })
})

test('segments at the present rate come on top', () => {
  const archive = { walSegmentSizeBytes: 16 * 2 ** 20 } as MeasuredArchive['archive']
  const rate = { bytesPerSecond: 2 ** 20, seconds: 60 }
  const measured = withRequests({ ...ARCHIVE, archive }, stream(60_000), rate)
  const segments = 86_400 / 16
  assert.deepEqual(measured.requests?.perDay, {
    writes: 1440 + segments,
    listings: segments,
    removals: 45 + segments,
  })
})

test('directories and servers with an archive_command are not paid for by requests', () => {
  assert.equal(
    withRequests({ ...ARCHIVE, canAppend: true }, stream(), undefined).requests,
    undefined,
  )
  const pushed = { ...stream(), walSource: 'archive_command' as const }
  assert.equal(withRequests(ARCHIVE, pushed, undefined).requests, undefined)
})

test('the line says the bound, or that there is none', () => {
  const lines = (every?: number) =>
    formatArchive(withRequests(ARCHIVE, stream(every), undefined), plain).join('\n')
  assert.match(lines(), /at most 8,640 writes, 0 listings, 270 removals a day \(flushEvery 10/)
  assert.match(lines(0), /a write with every flush of the server/)
})
