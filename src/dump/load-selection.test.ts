import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import {
  checkSelection,
  formatSelection,
  type LoadSelection,
  parseListedIds,
} from './load-selection.ts'

const OBJECTS = [
  { dumpId: 3, kind: 'SCHEMA', schema: '', name: 'Sales', owner: '' },
  { dumpId: 4, kind: 'TABLE', schema: 'Sales', name: 'Orders', owner: '' },
  { dumpId: 5, kind: 'TABLE DATA', schema: 'Sales', name: 'Orders', owner: '' },
  { dumpId: 6, kind: 'FUNCTION', schema: 'public', name: 'orders', owner: '' },
  { dumpId: 7, kind: 'MATERIALIZED VIEW', schema: 'public', name: 'mv.x', owner: '' },
]

const ALL: LoadSelection = { schemas: [], tables: [], sections: [], list: undefined }
const check = (selection: Partial<LoadSelection>): void =>
  checkSelection({ ...ALL, ...selection }, OBJECTS, (word, known) => `; ${word}? ${[...known]}`)

test('what is there is taken', () => {
  check({})
  check({ schemas: ['Sales', 'public'], tables: ['Orders', 'mv.x'] })
  check({ list: { path: 'l', text: ';x\n4; 1259 1 TABLE\n\n  5; y\n' } })
})

test('names are taken as they are, and near ones are told', () => {
  const refused: readonly (readonly [Partial<LoadSelection>, RegExp])[] = [
    [{ schemas: ['sales'] }, /--schema sales; sales\? Sales,public/],
    [{ tables: ['orders'] }, /--table orders; orders\? Orders,mv\.x/],
    [{ tables: ['Sales.Orders'] }, /say --schema Sales --table Orders/],
    [{ list: { path: 'l', text: '4; x\n99; y\n' } }, /--list l: 99/],
    [{ list: { path: 'l', text: ';4\n\n' } }, /l names no object/],
  ]
  for (const [selection, message] of refused) {
    assert.throws(
      () => check(selection),
      (error) => isFailure(error, 'TM2032') && message.test(error.message),
    )
  }
})

test('lists as pg_restore reads them', () => {
  assert.deepEqual(parseListedIds('; 1; x\n2; 0 0 A\n 3 ; B\nfour\n5'), [2, 3, 5])
})

test('options of pg_restore: values are never options of their own', () => {
  const selection = { ...ALL, schemas: ['--x'], tables: ['a b'], sections: ['data'] as const }
  const choices = { noOwner: true, noPrivileges: false, noTablespaces: true }
  assert.deepEqual(formatSelection(selection, choices), [
    '--schema=--x',
    '--table=a b',
    '--section=data',
    '--no-owner',
    '--no-tablespaces',
  ])
})
