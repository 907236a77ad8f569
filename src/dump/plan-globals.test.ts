import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planGlobals } from './plan-globals.ts'

const SCRIPT = `--
-- Roles
--
\\restrict abc
SET client_encoding = 'UTF8';
CREATE ROLE amy;
ALTER ROLE amy WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b==';
CREATE ROLE "Bob ""B""";
ALTER ROLE "Bob ""B""" WITH LOGIN PASSWORD 'secret';
ALTER ROLE amy SET work_mem TO '8MB';
COMMENT ON ROLE amy IS 'CREATE ROLE carol;';
GRANT amy TO "Bob ""B""" GRANTED BY postgres;
CREATE TABLESPACE fast OWNER amy LOCATION '/fast';
GRANT ALL ON TABLESPACE fast TO "Bob ""B""";
CREATE TABLESPACE "Slow" OWNER amy LOCATION '/slow';
ALTER TABLESPACE "Slow" SET (random_page_cost=2);
\\unrestrict abc
`

test('what is there stays as it is, but for memberships', () => {
  const there = { roles: new Set(['amy']), tablespaces: new Set(['Slow']) }
  const { statements, roles, tablespaces } = planGlobals(SCRIPT, there)
  assert.deepEqual(roles, { created: ['Bob "B"'], kept: ['amy'] })
  assert.deepEqual(tablespaces, { created: ['fast'], kept: ['Slow'] })
  assert.deepEqual(statements, [
    '\\restrict abc',
    "SET client_encoding = 'UTF8';",
    'CREATE ROLE "Bob ""B""";',
    `ALTER ROLE "Bob ""B""" WITH LOGIN PASSWORD 'secret';`,
    'GRANT amy TO "Bob ""B""" GRANTED BY postgres;',
    "CREATE TABLESPACE fast OWNER amy LOCATION '/fast';",
    'GRANT ALL ON TABLESPACE fast TO "Bob ""B""";',
    '\\unrestrict abc',
  ])
})

test('where nothing is there everything is run', () => {
  const { statements } = planGlobals(SCRIPT, { roles: new Set(), tablespaces: new Set() })
  assert.equal(statements.length, 14)
})
