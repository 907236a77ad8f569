/**
 * Brings a fresh checkout to where a habit can run: npm dependencies, the pinned Node.js,
 * PostgreSQL servers and tools, Debian's packages, the WASM kernel.
 *
 *   node set-up.mjs ready HABIT     status 0: nothing to do, 10: install, 11: cannot here
 *   node set-up.mjs install HABIT   the caller holds the lock
 *
 * Invariant: a step's result appears whole, by a rename, with the mark that says what it
 * was made from; an interrupted set-up is taken up again by the next run. Plain JavaScript,
 * because this is what runs under Debian's Node.js 20.
 */
import { statSync } from 'node:fs'
import { dirname } from 'node:path'
import { debianPackages } from './set-up/debian-packages.mjs'
import { dependencies } from './set-up/dependencies.mjs'
import { kernel } from './set-up/kernel.mjs'
import { postgresServers, postgresTools } from './set-up/postgres.mjs'
import { runtime } from './set-up/runtime.mjs'
import { ROOT, SetUpError, runStep } from './set-up/step.mjs'

const NEEDS_INSTALL = 10
const UNREACHABLE = 11

/** @type {Record<string, () => import('./set-up/step.mjs').Step[]>} */
const STEPS = {
  tidy: () => [dependencies, runtime],
  check: () => [dependencies, runtime],
  build: () => [dependencies, runtime, kernel],
  demo: () => [dependencies, runtime, kernel, postgresServers('one')],
  test: () => [
    dependencies,
    runtime,
    kernel,
    postgresServers('all'),
    postgresTools,
    debianPackages(['postgresql', 'rescue reader']),
    debianPackages(['ceph']),
  ],
  soak: () => STEPS.test(),
  bench: () => [dependencies, runtime, kernel, debianPackages(['postgresql', 'pgbackrest'])],
}

/** Habits that start PostgreSQL, which root must run as somebody else. */
const STARTS_SERVERS = ['demo', 'test', 'soak', 'bench']

/**
 * Whether every user may read this checkout. Root's servers run as `postgres`, which has
 * to reach the servers' programs, and bin/tidemark from archive_command.
 */
function everybodyMayEnter() {
  const others = (path) => statSync(path).mode & 0o005
  for (let path = ROOT; path !== '/'; path = dirname(path)) {
    if ((others(path) & 0o001) === 0) return false
  }
  return others(`${ROOT}/package.json`) >= 0o004 && others(`${ROOT}/bin/tidemark`) === 0o005
}

async function main() {
  const [mode, habit] = process.argv.slice(2)
  const steps = STEPS[habit ?? '']?.()
  if (steps === undefined) {
    process.stderr.write(`usage: sh scripts/run ${Object.keys(STEPS).join('|')}\n`)
    return 2
  }
  const isRoot = process.getuid?.() === 0
  if (isRoot && STARTS_SERVERS.includes(habit) && !everybodyMayEnter()) return UNREACHABLE
  // Root's umask may be 077; what is installed here is for everybody.
  if (isRoot) process.umask(0o022)
  if (mode === 'ready') return steps.every((step) => step.isReady()) ? 0 : NEEDS_INSTALL
  for (const step of steps) await runStep(step)
  return 0
}

main().then(
  (status) => {
    process.exitCode = status
  },
  (error) => {
    process.stderr.write(error instanceof SetUpError ? error.text() : `${error.stack}\n`)
    process.exitCode = 1
  },
)
