import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import type { DumpFormat } from '../repository/dump-record.ts'
import { type DumpSelection, formatSelection, judgeSelection, WHOLE_DATABASE } from './selection.ts'

function select(extra: Partial<DumpSelection>): DumpSelection {
  return { ...WHOLE_DATABASE, ...extra }
}

test('nothing selected is no argument', () => {
  judgeSelection(WHOLE_DATABASE, 'custom')
  assert.deepEqual(formatSelection(WHOLE_DATABASE, 17), [])
})

test('every value is joined to its option, whatever it looks like', () => {
  const selection = select({
    schemas: ['--file=/etc/passwd', '"A b"'],
    excludedSchemas: ['-x'],
    tables: ['a.*'],
    excludedTables: ['a.b'],
    excludedTableData: ['c'],
    sections: ['pre-data', 'data'],
    noOwner: true,
    noPrivileges: true,
    largeObjects: false,
    filters: ['/f'],
  })
  judgeSelection(selection, 'custom')
  assert.deepEqual(formatSelection(selection, 17), [
    '--schema=--file=/etc/passwd',
    '--schema="A b"',
    '--exclude-schema=-x',
    '--table=a.*',
    '--exclude-table=a.b',
    '--exclude-table-data=c',
    '--filter=/f',
    '--section=pre-data',
    '--section=data',
    '--no-owner',
    '--no-privileges',
    '--no-large-objects',
  ])
})

test('large objects have another name before 16', () => {
  assert.deepEqual(formatSelection(select({ largeObjects: true }), 15), ['--blobs'])
  assert.deepEqual(formatSelection(select({ largeObjects: false }), 15), ['--no-blobs'])
  assert.deepEqual(formatSelection(select({ largeObjects: true }), 16), ['--large-objects'])
})

test('a filter file is refused where pg_dump does not have it', () => {
  assert.throws(
    () => formatSelection(select({ filters: ['/f'] }), 16),
    (error) => isFailure(error, 'TM2006') && /--tools/.test(error.fix),
  )
})

const REFUSED: readonly [Partial<DumpSelection>, DumpFormat, RegExp][] = [
  [{ schemaOnly: true, dataOnly: true }, 'custom', /--schema-only and --data-only/],
  [{ create: true }, 'custom', /--create is for --format plain/],
  [{ create: true, dataOnly: true }, 'plain', /--create and --data-only/],
  [{ sections: ['pre'] }, 'custom', /--section cannot be 'pre'/],
  [{ schemaOnly: true, sections: ['data'] }, 'custom', /leaves nothing of --section data/],
  [{ dataOnly: true, sections: ['pre-data'] }, 'custom', /leaves nothing of --section pre-data/],
  [{ tables: [''] }, 'custom', /--table has an empty pattern/],
  [{ excludedSchemas: [' '] }, 'custom', /--exclude-schema has an empty pattern/],
  [{ filters: ['-'] }, 'custom', /standard input/],
]

for (const [extra, format, message] of REFUSED) {
  test(`refused: ${JSON.stringify(extra)} as ${format}`, () => {
    assert.throws(
      () => judgeSelection(select(extra), format),
      (error) => isFailure(error, 'TM2006') && message.test(error.message) && error.fix !== '',
    )
  })
}

test('what goes together is taken', () => {
  judgeSelection(select({ create: true, schemaOnly: true }), 'plain')
  judgeSelection(select({ schemaOnly: true, sections: ['pre-data', 'data'] }), 'tar')
  judgeSelection(select({ dataOnly: true, sections: ['data'] }), 'directory')
})
