import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { describeVersion, POSTGRES_VERSIONS, versionDirectoryName } from './versions.ts'

test('the table has every major from 13 to 18 once, in order', () => {
  assert.deepEqual(
    POSTGRES_VERSIONS.map((version) => version.major),
    [13, 14, 15, 16, 17, 18],
  )
  const distinct = (values: readonly number[]) => new Set(values).size === values.length
  assert.ok(distinct(POSTGRES_VERSIONS.map((version) => version.catalogVersion)))
  assert.ok(distinct(POSTGRES_VERSIONS.map((version) => version.walPageMagic)))
})

test('known versions are described', () => {
  assert.match(describeVersion(140011).backupStatements.stop, /pg_stop_backup\(false, \$1\)/)
  assert.match(describeVersion(150018).backupStatements.stop, /pg_backup_stop\(\$1\)/)
  assert.equal(describeVersion(160000).manifestVersion, 1)
  assert.deepEqual(describeVersion(170010).exclusions.walDirectories, [
    'archive_status',
    'summaries',
  ])
  assert.equal(describeVersion(180004).caution, undefined)
  assert.equal(versionDirectoryName(15, 202209061), 'PG_15_202209061')
})

test('older than 13 is refused, newer than known too unless forced', () => {
  assert.throws(
    () => describeVersion(120022),
    (error) => isFailure(error, 'TM1108'),
  )
  assert.throws(
    () => describeVersion(90624, { force: true }),
    (error) => isFailure(error, 'TM1108'),
  )
  assert.throws(
    () => describeVersion(190001),
    (error) => isFailure(error, 'TM1109') && error.message.includes('19') && error.fix !== '',
  )
  const forced = describeVersion(190001, { force: true })
  assert.equal(forced.major, 19)
  assert.equal(forced.controlFileVersion, 1800)
  assert.match(forced.caution ?? '', /19 is not known.*18/)
})
