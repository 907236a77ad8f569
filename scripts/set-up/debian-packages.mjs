/**
 * Debian's packages for tests and bench. Root installs them, and who may use sudo without
 * a password; everybody else is told what is left out.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { SetUpError, TOOLS, hashOf, lastLines, readText, run, say } from './step.mjs'
import { writeFileSync } from 'node:fs'

/** A program that proves a package, and what is lost without it. */
const PACKAGES = {
  postgresql: {
    isInstalled: () => debianServers().length > 0,
    apt: () => [newestKnown(), 'postgresql-contrib'],
    lost: 'the tests that need PostgreSQL’s client tools (pg_dump, pg_amcheck …) are skipped',
  },
  ceph: {
    isInstalled: () => CEPH.every((program) => existsSync(program)),
    apt: () => ['radosgw', 'ceph-mon', 'ceph-osd', 'ceph-common'],
    lost: 'the tests that need an S3 server (Ceph’s radosgw) are skipped',
  },
  pgbackrest: {
    isInstalled: () => existsSync('/usr/bin/pgbackrest'),
    apt: () => ['pgbackrest'],
    lost: 'there is nothing to compare with',
  },
  'rescue reader': {
    isInstalled: () => ['python3', 'zstd'].every(isProgram),
    apt: () => ['python3', 'zstd'],
    lost: 'the tests that restore a repository with tools/rescue-reader are skipped',
  },
}

/** An S3 server in a temporary directory needs these of Ceph (test/harness/s3-server.ts). */
const CEPH = ['radosgw', 'ceph-mon', 'ceph-osd', 'ceph', 'monmaptool'].map(
  (name) => `/usr/bin/${name}`,
)

/** Told once per machine and set of packages, so that set-up does not try again each time. */
const told = (names) => join(TOOLS, `debian-packages-${names.join('-').replaceAll(' ', '-')}.told`)

function isProgram(name) {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0
}

function debianServers() {
  const home = '/usr/lib/postgresql'
  if (!existsSync(home)) return []
  return readdirSync(home).filter((major) => existsSync(join(home, major, 'bin/pg_dump')))
}

/** Debian 12 has 15, which is what figures and versions in the documents refer to. */
function newestKnown() {
  const found = spawnSync('apt-cache', ['show', 'postgresql-15'], { stdio: 'ignore' })
  return found.status === 0 ? 'postgresql-15' : 'postgresql'
}

/** @returns {string[] | undefined} the words before apt-get, or undefined: not allowed */
function privilege() {
  if (!existsSync('/usr/bin/apt-get')) return undefined
  if (process.getuid?.() === 0) return []
  const sudo = spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' })
  return sudo.status === 0 ? ['sudo', '-n'] : undefined
}

/**
 * @param {(keyof typeof PACKAGES)[]} names
 * @returns {import('./step.mjs').Step}
 */
export function debianPackages(names) {
  const missing = () => names.filter((name) => !PACKAGES[name].isInstalled())
  const mark = () => hashOf(String(process.getuid?.()), ...missing())
  return {
    title: `Debian's packages (${names.join(', ')})`,
    optional: true,
    isReady: () => missing().length === 0 || readText(told(names)) === mark(),
    async install() {
      const words = privilege()
      if (words === undefined) {
        for (const name of missing()) say(`without ${name}: ${PACKAGES[name].lost}`)
        say('an ordinary user cannot install them (no apt-get, or no sudo without a password)')
        const packages = missing().flatMap((name) => PACKAGES[name].apt())
        say(`to have them, as root: apt-get install ${packages.join(' ')}`)
      } else {
        await aptInstall(words, missing())
      }
      if (missing().length > 0) writeFileSync(told(names), mark())
    },
  }
}

async function aptInstall(words, names) {
  const apt = async (args) => {
    const [program, ...rest] = [
      ...words,
      'env',
      'DEBIAN_FRONTEND=noninteractive',
      'apt-get',
      ...args,
    ]
    return await run(program, rest)
  }
  const packages = () => names.flatMap((name) => PACKAGES[name].apt())
  const install = ['install', '-y', '-q', '--no-install-recommends']
  await apt(['update', '-q'])
  say(`apt-get install ${packages().join(' ')}`)
  const { status, output } = await apt([...install, ...packages()])
  if (status !== 0) {
    const fix = `apt-get install ${packages().join(' ')}`
    throw new SetUpError('apt-get could not install packages', lastLines(output), fix)
  }
}
