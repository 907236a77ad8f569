import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { quoteLiteral, quoteName, splitStatements, unquoteName } from './sql-text.ts'

test('a semicolon in a literal, a name, a body or a comment ends nothing', () => {
  const statements = [
    "INSERT INTO t VALUES ('a;b''c;', E'd\\';e', ';')",
    'CREATE TABLE "a;""b;" (x int)',
    'CREATE FUNCTION f() RETURNS int AS $x$ SELECT 1; $$ ; $y$ $x$',
    'CREATE FUNCTION g() AS $$;$$',
    'SELECT a$b$c, e.x, d$1',
  ]
  const script =
    '-- one; comment\n\\restrict abc;d\n' +
    statements.map((one) => `/* a; b */\n${one};\n-- and; more\n`).join('\n')
  assert.deepEqual([...splitStatements(script)], ['\\restrict abc;d', ...statements])
})

test('a backslash within a statement is none of psql', () => {
  assert.deepEqual(
    [...splitStatements("SELECT 'a\\'; SELECT 2 \\g\n")],
    ["SELECT 'a\\'", 'SELECT 2 \\g'],
  )
})

test('any literals and names are read back as one statement each', () => {
  const word = fc.string({
    unit: fc.constantFrom("'", '"', ';', '\\', '$', '-', 'e', 'E', '\n', ' '),
  })
  fc.assert(
    fc.property(fc.array(fc.tuple(word, word), { minLength: 1 }), (pairs) => {
      const statements = pairs.map(([name, text]) => {
        return `COMMENT ON TABLE ${quoteName(`${name}x`)} IS ${quoteLiteral(text)}`
      })
      const script = statements.map((one) => `${one};\n`).join('')
      assert.deepEqual([...splitStatements(script)], statements)
    }),
  )
})

test('a very long literal', () => {
  const statement = `SELECT '${"x''y;".repeat(300_000)}'`
  assert.deepEqual([...splitStatements(`${statement};`)], [statement])
})

test('names', () => {
  assert.equal(unquoteName('plain'), 'plain')
  assert.equal(unquoteName('"A ""b"""'), 'A "b"')
  assert.equal(quoteName('A "b"'), '"A ""b"""')
})
