import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFailure } from '../base/failure.ts'
import { formatTablespaceMap, parseBackupLabel, parseTablespaceMap } from './backup-label.ts'

const LABEL = `START WAL LOCATION: 2/3000028 (file 000000040000000200000003)
CHECKPOINT LOCATION: 2/3000060
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIME: 2026-11-20 14:05:00 UTC
LABEL: tidemark: nightly
START TIMELINE: 4
`

test('a backup_label', () => {
  assert.deepEqual(parseBackupLabel(LABEL), {
    startLsn: 0x203000028n,
    startSegment: '000000040000000200000003',
    checkpointLsn: 0x203000060n,
    method: 'streamed',
    from: 'standby',
    startTime: '2026-11-20 14:05:00 UTC',
    label: 'tidemark: nightly',
    startTimeline: 4,
    incrementalFromLsn: undefined,
    stop: undefined,
  })
  const incremental = `${LABEL}INCREMENTAL FROM LSN: 1/2000028\nINCREMENTAL FROM TLI: 3\n`
  assert.equal(parseBackupLabel(incremental).incrementalFromLsn, 0x102000028n)
})

test('a backup history file has the end as well', () => {
  const stop = 'STOP WAL LOCATION: 2/3000100 (file 000000040000000200000003)\n'
  const history = `${LABEL}${stop}STOP TIME: 2026-11-20 14:06:00 UTC\nSTOP TIMELINE: 4\n`
  assert.deepEqual(parseBackupLabel(history).stop, {
    lsn: 0x203000100n,
    segment: '000000040000000200000003',
    time: '2026-11-20 14:06:00 UTC',
    timeline: 4,
  })
})

test('a backup_label without one of its lines is refused', () => {
  for (const line of LABEL.trimEnd().split('\n')) {
    assert.throws(
      () => parseBackupLabel(LABEL.replace(`${line}\n`, '')),
      (error) => isFailure(error, 'TM1117'),
      line,
    )
  }
  assert.throws(() => parseBackupLabel(LABEL.replace('2/3000060', 'x')))
})

test('tablespace_map is escaped as each version does it', () => {
  const odd = [{ oid: 16400, location: '/srv/a\\b\nc d' }]
  assert.equal(
    formatTablespaceMap(odd, { mapEscapesBackslash: true }),
    '16400 /srv/a\\\\b\\\nc d\n',
  )
  assert.equal(formatTablespaceMap(odd, { mapEscapesBackslash: false }), '16400 /srv/a\\b\\\nc d\n')
  assert.throws(
    () => parseTablespaceMap('16400\n', { mapEscapesBackslash: true }),
    (error) => isFailure(error, 'TM1117'),
  )
})

test('tablespace_map survives formatting and parsing', () => {
  const location = fc
    .array(fc.constantFrom('/', 'a', ' ', '\\', '\n', '\r', 'é'), { minLength: 1 })
    .map((characters) => `/${characters.join('')}x`)
  const spaces = fc.array(
    fc.record({ oid: fc.integer({ min: 1, max: 99999 }), location }, { noNullPrototype: true }),
  )
  fc.assert(
    fc.property(spaces, (tablespaces) => {
      const escaping = { mapEscapesBackslash: true }
      const text = formatTablespaceMap(tablespaces, escaping)
      assert.deepEqual(parseTablespaceMap(text, escaping), tablespaces)
    }),
  )
})
