import assert from 'node:assert/strict'
import { test } from 'node:test'
import { reportObjects } from './load-report.ts'
import { MessageReader } from './restore-messages.ts'
import { parseScriptMessages } from './script-messages.ts'

const LINES = `pg_restore: connecting to database for restore
pg_restore: creating SCHEMA "Mixed Case"
pg_restore: creating TABLE "Mixed Case.Ta"ble"
pg_restore: executing SEQUENCE SET id_seq
pg_restore: executing BLOB 16393
pg_restore: processing data for table "Mixed Case.Ta"ble"
pg_restore: processing BLOBS
pg_restore: restored 1 large object
pg_restore: creating FK CONSTRAINT "public.child child_fk"
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 3344; 2606 16391 FK CONSTRAINT child child_fk postgres
pg_restore: error: could not execute query: ERROR:  insert or update violates
DETAIL:  Key (id)=(1) is not present.
Command was: ALTER TABLE ONLY public.child
    ADD CONSTRAINT child_fk;


pg_restore: from TOC entry 3310; 0 16384 TABLE DATA late postgres
pg_restore: error: COPY failed for table "late": ERROR:  value too long
CONTEXT:  COPY late, line 5
pg_restore: warning: errors ignored on restore: 2`

function read(): MessageReader {
  const reader = new MessageReader()
  for (const line of LINES.split('\n')) reader.take(line)
  return reader
}

test('errors with their objects, messages and statements', () => {
  assert.deepEqual(read().errors, [
    {
      dumpId: 3344,
      message: 'ERROR:  insert or update violates\nDETAIL:  Key (id)=(1) is not present.',
      statement: 'ALTER TABLE ONLY public.child\n    ADD CONSTRAINT child_fk;',
    },
    {
      dumpId: 3310,
      message: 'COPY failed for table "late": ERROR:  value too long\nCONTEXT:  COPY late, line 5',
      statement: undefined,
    },
  ])
})

const OBJECTS = [
  { dumpId: 1, kind: 'SCHEMA', schema: '', name: 'Mixed Case', state: 'restored' },
  { dumpId: 2, kind: 'TABLE', schema: 'Mixed Case', name: 'Ta"ble', state: 'restored' },
  { dumpId: 3, kind: 'SEQUENCE SET', schema: 'public', name: 'id_seq', state: 'restored' },
  { dumpId: 4, kind: 'BLOB', schema: '', name: '16393', state: 'restored' },
  { dumpId: 5, kind: 'TABLE DATA', schema: 'Mixed Case', name: 'Ta"ble', state: 'restored' },
  { dumpId: 6, kind: 'BLOBS', schema: '', name: 'BLOBS', state: 'restored' },
  {
    dumpId: 3344,
    kind: 'FK CONSTRAINT',
    schema: 'public',
    name: 'child child_fk',
    state: 'failed',
  },
  { dumpId: 3310, kind: 'TABLE DATA', schema: 'public', name: 'late', state: 'failed' },
  { dumpId: 7, kind: 'ACL', schema: '', name: 'SCHEMA x', state: 'not reached' },
  { dumpId: 8, kind: 'TABLE', schema: 'public', name: 'other', state: 'skipped' },
].map((object) => ({ ...object, owner: '' }))

test('what became of each object', () => {
  const selected = new Set(OBJECTS.map(({ dumpId }) => dumpId).filter((one) => one !== 8))
  const ending = { selected, messages: read(), isWhole: false, isOneTransaction: false }
  const states = (more: object) =>
    reportObjects(OBJECTS, { ...ending, ...more }).map(({ state }) => state)
  const expected = OBJECTS.map(({ state }) => state)
  assert.deepEqual(states({}), expected)
  assert.deepEqual(
    states({ isOneTransaction: true }),
    expected.map((state) => (state === 'restored' ? 'undone' : state)),
  )
  assert.deepEqual(
    states({ isWhole: true, messages: new MessageReader() }),
    expected.map((state) => (state === 'skipped' ? state : 'restored')),
  )
})

test('what psql says', () => {
  const { error, statement, line } = parseScriptMessages(
    `psql:<stdin>:3: NOTICE:  nothing
psql:<stdin>:7: ERROR:  relation "x" does not exist
LINE 1: select * from x
                      ^
psql:<stdin>:7: STATEMENT:  select *
from x;
psql:<stdin>:9: ERROR:  another`.split('\n'),
  )
  assert.equal(line, 7)
  assert.match(error ?? '', /^ERROR: {2}relation "x" does not exist\nLINE 1: select/)
  assert.equal(statement, 'select *\nfrom x;')
  assert.equal(parseScriptMessages([]).error, undefined)
})

test('passwords in statements that fail are in no message', () => {
  const { error, statement } = parseScriptMessages([
    `psql:<stdin>:7: ERROR:  no`,
    `LINE 1: ALTER ROLE amy PASSWORD 'se''cret`,
    `psql:<stdin>:7: STATEMENT:  ALTER ROLE amy WITH LOGIN PASSWORD 'se''cret' VALID UNTIL 'x';`,
  ])
  assert.equal(error, "ERROR:  no\nLINE 1: ALTER ROLE amy PASSWORD '…'")
  assert.equal(statement, "ALTER ROLE amy WITH LOGIN PASSWORD '…' VALID UNTIL 'x';")
  const reader = new MessageReader()
  reader.take('pg_restore: error: could not execute query: ERROR:  no')
  reader.take("Command was: CREATE USER MAPPING FOR x SERVER y OPTIONS (password 'secret');")
  assert.doesNotMatch(JSON.stringify([reader.errors, reader.lastLines]), /secret/)
})
