/** Samples and their text; what is not known has no sample. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { formatMetrics, metricsJson } from './format-metrics.ts'
import { METRIC_NAMES, METRICS, type Sample } from './metric-table.ts'
import type { ClusterReading } from './read-metrics.ts'
import { sampleCluster } from './sample-cluster.ts'

const NOW = new Date('2026-11-22T12:00:00Z')
const MB = 1024 * 1024

test('labels are escaped, +Inf is written, metrics without a sample are left out', async () => {
  const labels = { cluster: 'a"b\\c\nd' }
  const text = await formatMetrics([
    { name: 'tidemark_wal_disk_time_left_seconds', labels, value: Infinity },
    { name: 'tidemark_server_up', labels, value: 0 },
  ])
  assert.deepEqual(text.trimEnd().split('\n'), [
    `# HELP tidemark_server_up ${METRICS.tidemark_server_up.help}`,
    '# TYPE tidemark_server_up gauge',
    'tidemark_server_up{cluster="a\\"b\\\\c\\nd"} 0',
    '',
    `# HELP tidemark_wal_disk_time_left_seconds ${METRICS.tidemark_wal_disk_time_left_seconds.help}`,
    '# TYPE tidemark_wal_disk_time_left_seconds gauge',
    'tidemark_wal_disk_time_left_seconds{cluster="a\\"b\\\\c\\nd"} +Inf',
  ])
  const json = JSON.stringify(
    metricsJson([{ name: 'tidemark_exposure_seconds', labels: {}, value: Infinity }]),
  )
  assert.match(json, /"value":"\+Inf"/)
})

/** A reading of which a test says what it is about. */
function reading(over: object): ClusterReading {
  const dead = { reached: undefined, failure: undefined, findings: [] }
  const base = { cluster: 'main', slot: 'tidemark', isStreamed: false, server: dead, archives: [] }
  return {
    ...base,
    disk: undefined,
    seconds: 0.5,
    remarks: [],
    isLate: false,
    ...over,
  } as unknown as ClusterReading
}

function archive(over: object): object {
  const listing = { walSegmentSizeBytes: MB, timelines: [], expired: undefined }
  const lag = { bytes: undefined, seconds: undefined }
  return { name: 'local', archive: listing, writers: [], findings: [], lag, ...over }
}

const AWAY = { name: 'local', archive: undefined, findings: [], lag: {} }

function sampleOf(samples: readonly Sample[], name: string): number | undefined {
  const found = samples.filter((one) => one.name === name)
  assert.ok(found.length <= 1, `${name}: ${found.length} samples`)
  return found[0]?.value
}

test('with all away there are only the metrics that say so', () => {
  const samples = sampleCluster(reading({ archives: [AWAY] }), NOW)
  assert.deepEqual(
    samples.map(({ name, value }) => [name, value]),
    [
      ['tidemark_scrape_success', 0],
      ['tidemark_scrape_duration_seconds', 0.5],
      ['tidemark_server_up', 0],
      ['tidemark_wal_directory_up', 0],
      ['tidemark_repository_up', 0],
    ],
  )
})

test('the disk lasts for its free bytes by the rate, and for ever where nothing is written', () => {
  const disk = { freeBytes: 600 * MB, waiting: 4, waitingSegments: 3, waitingBytes: 3 * MB }
  const left = (walBytesPerSecond: number | undefined, archives: object[]) =>
    sampleOf(
      sampleCluster(reading({ disk: { ...disk, walBytesPerSecond }, archives }), NOW),
      'tidemark_wal_disk_time_left_seconds',
    )
  assert.equal(left(2 * MB, [AWAY]), 300)
  assert.equal(left(undefined, [AWAY]), Infinity)
  const rate = { bytesPerSecond: MB, seconds: 60 }
  assert.equal(left(undefined, [archive({ rate })]), 600, 'by what the archive holds')
  assert.equal(left(2 * MB, [archive({ rate })]), 300)
})

test('the receiver: how far it is behind, and whether its slot is lost', () => {
  const slot = { name: 'tidemark', isActive: true, keptBytes: 5000, walStatus: 'reserved' }
  const told = (slots: object[], isStreamed = true) => {
    const reached = { slots, currentLsn: '0/5000000', at: NOW.toISOString(), lastArchivedAt: null }
    const server = { reached, findings: [] }
    const samples = sampleCluster(reading({ server, isStreamed }), NOW)
    return ['connected', 'lag_bytes', 'lag_seconds', 'slot_lost'].map((name) =>
      sampleOf(samples, `tidemark_receiver_${name}`),
    )
  }
  assert.deepEqual(told([{ ...slot, flushLagSeconds: 0.25 }]), [1, 5000, 0.25, 0])
  assert.deepEqual(told([{ ...slot, keptBytes: -8, flushLagSeconds: null }]), [1, 0, 0, 0])
  const idle = { ...slot, isActive: false, flushLagSeconds: null }
  assert.deepEqual(told([idle], false), [0, 5000, undefined, 0])
  const lost = { ...idle, keptBytes: null, walStatus: 'lost' }
  assert.deepEqual(told([lost]), [0, undefined, undefined, 1])
  assert.deepEqual(told([]), [0, undefined, undefined, 1])
  const none = [undefined, undefined, undefined, undefined]
  assert.deepEqual(told([], false), none, 'no receiver is meant')
})

test('of a timeline the newest interval is told, and nothing of the hole before it', () => {
  const interval = (timeline: number, from: string, to: string | undefined) => ({
    timeline,
    from: { time: `2026-11-22T${from}:00Z`, lsn: '0/1' },
    to: { time: to && `2026-11-22T${to}:00Z`, lsn: '0/2' },
  })
  const window = {
    intervals: [
      interval(1, '08:00', '09:00'),
      interval(1, '10:00', '11:00'),
      interval(2, '11:30', undefined),
    ],
  }
  const newestWal = { segment: 'x', lsn: '0/2' }
  const samples = sampleCluster(reading({ archives: [archive({ window, newestWal })] }), NOW)
  const ends = (which: string) =>
    samples
      .filter(({ name }) => name === `tidemark_recovery_window_${which}_timestamp_seconds`)
      .map(({ labels, value }) => [
        labels['timeline'],
        new Date(value * 1000).toISOString().slice(11, 16),
      ])
  assert.deepEqual(ends('start'), [
    ['1', '10:00'],
    ['2', '11:30'],
  ])
  assert.deepEqual(ends('end'), [
    ['1', '11:00'],
    ['2', '11:30'],
  ])
})

test('without anything to recover everything is exposed; what is unread is not known', () => {
  const exposed = (archives: object[]) =>
    sampleOf(sampleCluster(reading({ archives }), NOW), 'tidemark_exposure_seconds')
  const empty = archive({ window: { intervals: [] } })
  assert.equal(exposed([empty]), Infinity)
  assert.equal(exposed([empty, AWAY]), undefined)
})

test('lost WAL, the tail and the last backup', () => {
  const findings = [{ code: 'TM1425', result: 'problem' }]
  const position = { lsn: '0/500100', segment: '000000030000000000000004' }
  const tail = '000000030000000000000005'
  const lastBackup = { stoppedAt: '2026-11-22T11:00:00Z', files: { bytes: 1234 } }
  const lastMoment = { lsn: 0n, atMs: Date.parse('2026-11-22T11:59:00Z') }
  const one = { findings, lastMoment, lastBackup, backups: 2, position: { ...position, tail } }
  const samples = sampleCluster(reading({ archives: [archive(one)] }), NOW)
  const value = (name: string) => sampleOf(samples, `tidemark_${name}`)
  assert.equal(value('archive_wal_lost'), 1)
  assert.equal(value('archive_tail_position_bytes'), 0x500100)
  assert.equal(value('archive_last_segment_age_seconds'), 60)
  assert.deepEqual([value('backups'), value('last_backup_size_bytes')], [2, 1234])
  assert.equal(value('last_backup_age_seconds'), 3600)
  const ended = value('last_backup_timestamp_seconds') ?? 0
  assert.equal(new Date(ended * 1000).toISOString(), '2026-11-22T11:00:00.000Z')
  const named = samples.find(({ name }) => name === 'tidemark_archive_tail_position_bytes')
  assert.deepEqual(named?.labels, { cluster: 'main', repository: 'local', timeline: '3' })
})

test('the manual knows each metric, and no other', () => {
  const path = new URL('../../../../docs/manual/parts/metrics.md', import.meta.url)
  const named = readFileSync(path, 'utf8').match(/\btidemark_[a-z_]+\b/g) ?? []
  assert.deepEqual([...new Set(named)].sort(), [...METRIC_NAMES].sort())
})
