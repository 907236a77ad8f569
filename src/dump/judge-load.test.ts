import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type DumpedSource,
  type FoundDatabase,
  judgeLoad,
  type LoadChoices,
  type LoadTarget,
  refuseLoad,
} from './judge-load.ts'
import type { LoadNeeds } from './read-needs.ts'

const SOURCE: DumpedSource = {
  name: 'shop',
  oid: 16384,
  encoding: 'UTF8',
  systemIdentifier: '1',
  major: 15,
  createsItself: false,
}

const EMPTY: FoundDatabase = { oid: 5, encoding: 'UTF8', converts: true, objects: new Map() }

const TARGET: LoadTarget = {
  address: '/run',
  database: 'copy',
  found: EMPTY,
  systemIdentifier: '2',
  startedAt: new Date(0),
  major: 15,
  isInRecovery: false,
  roles: new Set(['postgres']),
  tablespaces: new Set(['pg_default']),
}

const NEEDS: LoadNeeds = {
  roles: new Map([['postgres', ['owner']]]),
  tablespaces: new Set(),
  createDatabase: undefined,
}

const CHOICES: LoadChoices = {
  create: false,
  clean: false,
  force: false,
  dataOnly: false,
  singleTransaction: false,
  createMissingRoles: false,
}

const FULL = {
  ...EMPTY,
  objects: new Map([
    ['table', 2],
    ['schema', 1],
  ]),
}
const NEEDY: LoadNeeds = {
  ...NEEDS,
  roles: new Map([
    ['amy', ['owner', 'policy']],
    ['bob', ['privileges']],
  ]),
  tablespaces: new Set(['fast', 'pg_default']),
}

interface Case {
  readonly source?: Partial<DumpedSource>
  readonly target?: Partial<LoadTarget>
  readonly needs?: LoadNeeds
  readonly choices?: Partial<LoadChoices>
}

/** What stands against it, by a word of each. */
const CASES: readonly (readonly [string, Case, readonly RegExp[]])[] = [
  ['an empty database', {}, []],
  ['no database', { target: { found: undefined } }, [/has no database copy/]],
  ['no database, to be made', { target: { found: undefined }, choices: { create: true } }, []],
  ['to be made, and there', { choices: { create: true } }, [/there already/]],
  ['a standby', { target: { isInRecovery: true } }, [/standby/]],
  [
    'the same database',
    { target: { systemIdentifier: '1', found: { ...EMPTY, oid: 16384 } } },
    [/very database/],
  ],
  [
    'the same, replaced: only force may',
    { target: { systemIdentifier: '1', found: { ...FULL, oid: 16384 } }, choices: { clean: true } },
    [/very database/],
  ],
  [
    'the same, forced',
    { target: { systemIdentifier: '1', found: { ...FULL, oid: 16384 } }, choices: { force: true } },
    [],
  ],
  ['another of the same server', { target: { systemIdentifier: '1' } }, []],
  ['the same OID elsewhere', { target: { found: { ...EMPTY, oid: 16384 } } }, []],
  ['not empty', { target: { found: FULL } }, [/copy is not empty: it holds 2 tables, 1 schema/]],
  [
    'a script that creates its database',
    { source: { createsItself: true } },
    [/script that creates database shop itself/],
  ],
  [
    'a script that creates its database, and another one is wanted in one transaction',
    {
      source: { createsItself: true },
      target: { found: undefined },
      choices: { create: true, singleTransaction: true },
    },
    [/script that creates database shop itself/, /no transaction/],
  ],
  [
    'a script that creates the very database that is wanted',
    {
      source: { createsItself: true },
      target: { found: undefined, database: 'shop' },
      choices: { create: true },
    },
    [],
  ],
  ['not empty, clean', { target: { found: FULL }, choices: { clean: true } }, []],
  ['not empty, only rows', { target: { found: FULL }, choices: { dataOnly: true } }, []],
  [
    'no conversion',
    {
      source: { encoding: 'LATIN1' },
      target: { found: { ...EMPTY, encoding: 'EUC_JP', converts: false } },
    },
    [/cannot convert LATIN1 into EUC_JP/],
  ],
  [
    'roles and tablespaces',
    { needs: NEEDY },
    [/roles amy \(owner, policy\), bob \(privileges\)/, /tablespace fast$/],
  ],
  [
    'roles to be made',
    { needs: NEEDY, choices: { createMissingRoles: true } },
    [/tablespace fast/],
  ],
  [
    'everything at once',
    { needs: NEEDY, target: { found: FULL, isInRecovery: true } },
    [/standby/, /not empty/, /roles/, /tablespace/],
  ],
]

for (const [name, { source, target, needs = NEEDS, choices }, expected] of CASES) {
  test(name, () => {
    const judged = { ...TARGET, ...target }
    const all = { ...CHOICES, ...choices }
    const { problems } = judgeLoad({ ...SOURCE, ...source }, judged, needs, all)
    assert.equal(problems.length, expected.length, JSON.stringify(problems))
    for (const [index, pattern] of expected.entries()) {
      assert.match(problems[index]?.message ?? '', pattern)
    }
    if (problems.length === 0) return
    const failure = refuseLoad(judged, problems)
    for (const pattern of expected) {
      assert.ok(
        problems.some(({ message, fix }) => {
          return (
            pattern.test(message) && failure.because?.includes(message) && failure.fix.includes(fix)
          )
        }),
      )
    }
  })
}

test('missing roles are to be made, in the order of the script', () => {
  const choices = { ...CHOICES, createMissingRoles: true }
  const { rolesToCreate } = judgeLoad(SOURCE, TARGET, NEEDY, choices)
  assert.deepEqual(rolesToCreate, ['amy', 'bob'])
})

test('cautions: an older server, another encoding, a plain dump', () => {
  const target = { ...TARGET, major: 13, found: { ...EMPTY, encoding: 'LATIN1' } }
  const { cautions, problems } = judgeLoad(SOURCE, target, undefined, CHOICES)
  assert.deepEqual(problems, [])
  assert.equal(cautions.length, 3)
  assert.match(cautions[0] ?? '', /13 is older than the 15/)
  assert.match(cautions[1] ?? '', /LATIN1/)
})
