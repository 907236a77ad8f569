import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FileEntry } from '../repository/backup-record.ts'
import { isFailure } from '../base/failure.ts'
import { type Aside, placeOf } from './plan-restore.ts'

/** As they are left by a copy of a copy whose original had its configuration elsewhere. */
const PATHS = [
  '@config/0000/postgresql.conf',
  '@config/0001/pg_hba.conf',
  'base/1/1259',
  'configuration.original',
  'configuration.original/0000-postgresql.conf',
  'configuration.original.original',
  'configuration.original.original/0000-postgresql.conf',
  'configuration/notes',
  'global/pg_control',
  'pg_hba.conf',
  'pg_hba.conf.original',
  'postgresql.auto.conf',
  'postgresql.conf',
  'postgresql.conf.original',
  'postgresql.conf.original.original',
  'tables.original',
]

function placesOf(aside: Aside, paths = PATHS): Map<string, string | undefined> {
  return new Map(
    paths.map((path) => [path, placeOf({ path, kind: 'content' } as FileEntry, aside)]),
  )
}

test('no two entries are written to one place, nor to one that the restore writes', () => {
  for (const takeOver of [true, false]) {
    const places = [...placesOf({ takeOver, hasConfiguration: true }).values()]
    assert.equal(new Set(places).size, PATHS.length)
    if (!takeOver) assert.ok(!places.includes('postgresql.conf'))
  }
})

test('what an earlier copy put aside is put further aside by the next one', () => {
  const places = placesOf({ takeOver: false, hasConfiguration: true })
  const original = 'configuration.original.original'
  assert.equal(places.get('configuration.original'), original)
  assert.equal(
    places.get('configuration.original/0000-postgresql.conf'),
    `${original}/0000-postgresql.conf`,
  )
  assert.equal(places.get('pg_hba.conf'), 'pg_hba.conf.original')
  assert.equal(places.get('pg_hba.conf.original'), 'pg_hba.conf.original.original')
  assert.equal(places.get('tables.original'), 'tables.original')
  assert.equal(places.get('configuration/notes'), 'configuration/notes')
})

test('a restore that takes over moves nothing that has its place to itself', () => {
  const paths = PATHS.filter((path) => !path.startsWith('@') && path !== 'global/pg_control')
  for (const [path, place] of placesOf({ takeOver: true, hasConfiguration: false }, paths)) {
    assert.equal(place, path)
  }
})

test('a name that begins with @ keeps it, and what a later version put below @ is refused', () => {
  const aside = { takeOver: true, hasConfiguration: false }
  const place = (path: string) => placeOf({ path, kind: 'directory', mode: 0o700 }, aside)
  assert.equal(place('@@notes'), '@notes')
  assert.equal(place('@@config/0000/postgresql.conf'), '@config/0000/postgresql.conf')
  assert.equal(place('@@@twice'), '@@twice')
  assert.throws(
    () => place('@later/file'),
    (error) => isFailure(error, 'TM1504') && error.message.includes('@later/file'),
  )
})
