import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeExposure } from './judge-exposure.ts'
import type { RepositoryStatus } from './read-repository.ts'
import type { ServerStatus } from './read-server.ts'

const NOW = new Date('2026-11-21T12:10:00Z')

function server(currentLsn: string, lastArchivedAt: string): ServerStatus {
  const reached = { currentLsn, lastArchivedAt, at: NOW.toISOString() }
  return { reached, failure: undefined, findings: [] } as unknown as ServerStatus
}

const GONE: ServerStatus = { reached: undefined, failure: undefined, findings: [] }

/** The interval ends at `lsn`; `newest` is archived behind it, perhaps behind a hole. */
function repository(
  lastSegment: string,
  lsn: string,
  newest: string,
  end: string,
): RepositoryStatus {
  return {
    newestWal: { segment: newest, lsn: end },
    window: {
      intervals: [
        {
          from: { time: '2026-11-21T12:00:00Z', lsn: '0/2000100' },
          to: { time: '2026-11-21T12:05:00Z', lsn },
          lastSegment,
        },
      ],
    },
  } as unknown as RepositoryStatus
}

test('what is written and not archived is lost, back to the last archived segment', () => {
  const one = repository('S5', '0/5FFFF00', 'S5', '0/6000000')
  assert.deepEqual(judgeExposure(server('0/6000400', '2026-11-21T12:09:00Z'), [one], NOW), {
    bytes: 0x400,
    seconds: 60,
    since: new Date('2026-11-21T12:09:00Z'),
  })
  assert.equal(judgeExposure(server('0/6000000', '2026-11-21T12:09:00Z'), [one], NOW).bytes, 0)
})

test('WAL behind a hole saves nothing', () => {
  const holed = repository('S3', '0/4000000', 'S5', '0/6000000')
  const { bytes, since } = judgeExposure(server('0/6000000', '2026-11-21T12:09:00Z'), [holed], NOW)
  assert.equal(bytes, 0x2000000)
  assert.deepEqual(since, new Date('2026-11-21T12:05:00Z'))
})

test('without the server: what came after the last moment in the archive', () => {
  const one = repository('S5', '0/5FFFF00', 'S5', '0/6000000')
  assert.deepEqual(judgeExposure(GONE, [one], NOW), {
    bytes: undefined,
    seconds: 300,
    since: new Date('2026-11-21T12:05:00Z'),
  })
})

test('without a backup everything is lost; of several repositories the best one counts', () => {
  const none = { newestWal: undefined, window: { intervals: [] } } as unknown as RepositoryStatus
  assert.equal(judgeExposure(GONE, [none], NOW).since, undefined)
  const old = repository('S3', '0/3FFFF00', 'S3', '0/4000000')
  const good = repository('S5', '0/5FFFF00', 'S5', '0/6000000')
  const { bytes } = judgeExposure(server('0/6000400', '2026-11-21T12:09:00Z'), [old, good], NOW)
  assert.equal(bytes, 0x400)
})
