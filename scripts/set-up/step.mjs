/** What a step of set-up is, and how one is run: with progress, and errors in our form. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * @typedef {object} Step
 * @property {string} title what is being installed, in a few words
 * @property {() => boolean} isReady costs milliseconds
 * @property {() => Promise<void>} install
 * @property {boolean} [optional] a failure is told and passed over
 */

export const ROOT = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '')
export const TOOLS = join(ROOT, '.tools')
const LOG = join(TOOLS, 'set-up.log')
const HEARTBEAT_MS = 10_000

export class SetUpError extends Error {
  /** @param {string} message @param {string} because @param {string} fix */
  constructor(message, because, fix) {
    super(message)
    this.because = because
    this.fix = fix
  }

  text() {
    return `error TM1802: ${this.message}\n  because: ${this.because}\n  fix: ${this.fix}\n`
  }
}

/** @param {string} text */
export function say(text) {
  process.stderr.write(`set-up: ${text}\n`)
}

/** @param {Step} step */
export async function runStep(step) {
  if (step.isReady()) return
  mkdirSync(TOOLS, { recursive: true })
  say(`${step.title} …`)
  const begin = performance.now()
  const seconds = () => `${Math.round((performance.now() - begin) / 1000)} s`
  const heartbeat = setInterval(
    () => say(`${step.title}: still at it (${seconds()})`),
    HEARTBEAT_MS,
  )
  try {
    await step.install()
    say(`${step.title}: done in ${seconds()}`)
  } catch (error) {
    if (!step.optional || !(error instanceof SetUpError)) throw error
    say(`${step.title}: left out, ${error.message}: ${error.because}`)
  } finally {
    clearInterval(heartbeat)
  }
}

/**
 * Runs a program with its output in .tools/set-up.log and gives that output.
 * @param {string} program
 * @param {string[]} args
 * @param {{cwd?: string, env?: Record<string, string>}} [options]
 * @returns {Promise<{status: number | null, output: string}>}
 */
export function run(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd ?? ROOT,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    const take = (chunk) => {
      output += chunk
      appendFileSync(LOG, chunk)
    }
    appendFileSync(LOG, `\n$ ${program} ${args.join(' ')}\n`)
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, output }))
  })
}

/** npm's codes of a registry that did not answer (`npm error code …`). */
const UNREACHABLE = /code (ENOTFOUND|EAI_AGAIN|ECONN\w+|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ENETUNREACH)/

/**
 * `npm ci` in a directory with a lock file: npm checks every download against the lock's
 * integrity. Nobody's install scripts run.
 * @param {string} directory @param {string} what
 */
export async function npmCi(directory, what) {
  const args = ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund']
  args.push('--prefer-offline', '--fetch-retries=2', '--fetch-retry-mintimeout=2000')
  const { status, output } = await run('npm', args, { cwd: directory })
  if (status === 0) return
  const unreachable = UNREACHABLE.exec(output)
  if (unreachable !== null) {
    const fix = 'check the network and `npm config get registry`, then run this again'
    const because = `the npm registry cannot be reached (${unreachable[1]})`
    throw new SetUpError(`cannot download ${what}`, because, fix)
  }
  throw new SetUpError(`npm could not install ${what}`, lastLines(output), `read ${LOG}`)
}

/** @param {string} output */
export function lastLines(output) {
  const lines = output
    .trim()
    .split('\n')
    .filter((line) => !/complete log|^npm error\s*$/.test(line))
  return lines.slice(-3).join('; ') || 'it gave no reason'
}

/**
 * Installs one package of a committed lock into a fresh directory and gives its path,
 * `…/node_modules/<name>`. The lock is cut down to that package, so that nothing else is
 * downloaded.
 * @param {string} set the directory beside this file that holds the lock
 * @param {string} name
 */
export async function installPackage(set, name) {
  const lock = readLock(set)
  const entry = lock.packages[`node_modules/${name}`]
  const wanted = lock.packages[''].optionalDependencies[name]
  const root = { name: lock.name, dependencies: { [name]: wanted } }
  const cut = {
    ...lock,
    packages: { '': root, [`node_modules/${name}`]: { ...entry, optional: undefined } },
  }
  const directory = freshDirectory(`incoming-${set}`)
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ ...root, private: true }))
  writeFileSync(join(directory, 'package-lock.json'), JSON.stringify(cut))
  await npmCi(directory, `${wanted.replace(/^npm:/, '')}`)
  return join(directory, 'node_modules', name)
}

/** @param {string} set */
export function readLock(set) {
  return readJson(join(ROOT, 'scripts/set-up', set, 'package-lock.json'))
}

/** @param {string} name */
export function freshDirectory(name) {
  const directory = join(TOOLS, name)
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  return directory
}

/** The parsed file, or undefined where there is none. @param {string} path */
export function readJson(path) {
  const text = readText(path)
  return text === undefined ? undefined : JSON.parse(text)
}

/** @param {string} path @returns {string | undefined} */
export function readText(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  }
}

/** @param {string[]} texts */
export function hashOf(...texts) {
  return createHash('sha256').update(texts.join('\0')).digest('hex')
}

export function isRuntimeNeeded() {
  return Number(process.versions.node.split('.')[0]) < 24
}

/** The Node.js that runs TypeScript: the pinned one, or this one where it is new enough. */
export function runtimeProgram() {
  return isRuntimeNeeded() ? join(TOOLS, 'runtime/bin/node') : process.execPath
}
