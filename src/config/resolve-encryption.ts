/**
 * From `encryption` of a repository to the secret that opens it: the passphrase, the
 * content of the key file, or what the key command prints.
 *
 * Invariant: the secret is in no message and no argument of a process. The command is
 * handed to the shell as the file says it; nothing is put into it.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { sleep } from '../base/clock.ts'
import { describeSystemError, Failure } from '../base/failure.ts'
import type { KeySecret } from '../repository/key-slots.ts'
import type { EncryptionConfiguration } from './configuration.ts'
import type { Environment } from './environment.ts'
import { resolveSecret } from './secret.ts'

const LEAST_PASSPHRASE = 8
const LEAST_KEY_BYTES = 32
const MOST_KEY_BYTES = 64 * 1024
const COMMAND_TIMEOUT_MS = 60_000
/** For what is on its way in the pipes when the shell has ended. */
const PIPES_MS = 1000

/** TM1005 and TM1523. `where`: for messages, `repositories.local.encryption`. */
export async function resolveEncryption(
  { passphrase, keyFile, keyCommand }: EncryptionConfiguration,
  where: string,
  env: Environment,
  timeoutMs = COMMAND_TIMEOUT_MS,
): Promise<KeySecret> {
  if (passphrase !== undefined) return readPassphrase(passphrase, `${where}.passphrase`, env)
  if (keyFile !== undefined) return readKeyFile(keyFile, `${where}.keyFile`)
  if (keyCommand !== undefined) {
    const shell = await runShell(keyCommand, env, timeoutMs)
    return readPrinted(shell, `${where}.keyCommand`)
  }
  throw new Error(`${where} has neither passphrase nor key`)
}

function readPassphrase(text: string, where: string, env: Environment): KeySecret {
  const passphrase = resolveSecret(text, where, env).reveal()
  if ([...passphrase].length < LEAST_PASSPHRASE) {
    throw unusable(`the passphrase of ${where} is too short`, {
      because: `it has fewer than ${LEAST_PASSPHRASE} characters`,
      fix: 'take a longer one: openssl rand -base64 24',
    })
  }
  return { kind: 'passphrase', bytes: Buffer.from(passphrase, 'utf8'), where }
}

function readKeyFile(path: string, where: string): KeySecret {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (cause) {
    throw unusable(`the key file ${path} of ${where} cannot be read`, {
      because: describeSystemError(cause),
      fix: `make it readable for the user who runs this command (archive_command runs as the
       PostgreSQL server), or make a new one for a new repository: openssl rand -hex 32 > ${path}`,
      cause,
    })
  }
  return { kind: 'key-file', bytes: requireKey(bytes, `the key file ${path} of ${where}`), where }
}

function readPrinted({ printed, said, ended }: ShellResult, where: string): KeySecret {
  if (ended !== undefined) {
    throw unusable(`the key command of ${where} failed`, {
      because: [ended, firstLine(said)].filter((text) => text !== '').join(': '),
      // The command itself may hold a token, and messages go to the server's log.
      fix: `run it by hand as the same user, with the same environment: sh -c '…'`,
    })
  }
  const key = requireKey(printed, `what the key command of ${where} prints`)
  return { kind: 'key-command', bytes: key, where }
}

interface ShellResult {
  /** More than a key may have, when there was more. */
  readonly printed: Buffer
  readonly said: string
  /** How it failed, if it did. */
  readonly ended: string | undefined
}

/**
 * With the environment of this command, and without input. What the shell has started and left
 * behind may keep the pipes open for ever (an agent, a connection): that is not waited for.
 */
async function runShell(
  command: string,
  env: Environment,
  timeoutMs: number,
): Promise<ShellResult> {
  return await new Promise((resolve) => {
    const shell = spawn('/bin/sh', ['-c', command], {
      env: { ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    })
    const printed: Buffer[] = []
    let bytes = 0
    let said = ''
    const waiting = new AbortController()
    shell.stdout.on('data', (chunk: Buffer) => {
      if (bytes <= MOST_KEY_BYTES) printed.push(chunk)
      bytes += chunk.length
    })
    shell.stderr.on('data', (chunk: Buffer) => {
      if (said.length < 1000) said += chunk.toString('utf8')
    })
    const end = (ended: string | undefined): void => {
      waiting.abort()
      shell.stdout.destroy()
      shell.stderr.destroy()
      resolve({ printed: Buffer.concat(printed), said, ended })
    }
    const settle = (status: number | null, signal: string | null): void => {
      if (status === 0) end(undefined)
      else end(signal === null ? `exit status ${status}` : `it was ended by ${signal}`)
    }
    shell.on('error', (error) => end(describeSystemError(error)))
    shell.on('close', settle)
    shell.on('exit', (status, signal) => {
      sleep(PIPES_MS, waiting.signal).then(
        () => settle(status, signal),
        () => undefined,
      )
    })
  })
}

function firstLine(text: string): string {
  return (text.trim().split('\n')[0] ?? '').slice(0, 200)
}

/** Text counts without its last line break, so that an editor does no harm. */
function requireKey(bytes: Buffer, what: string): Buffer {
  const text = bytes.toString('latin1')
  const key = /^[\x20-\x7e]*\r?\n?$/.test(text) ? bytes.subarray(0, lengthOfLine(text)) : bytes
  if (key.length >= LEAST_KEY_BYTES && bytes.length <= MOST_KEY_BYTES) return key
  throw unusable(`${what} is no key`, {
    because: `it has ${key.length} bytes; a key has ${LEAST_KEY_BYTES} or more, and at most 64 KiB`,
    fix: 'take random bytes, for example: openssl rand -hex 32',
  })
}

function lengthOfLine(text: string): number {
  return text.replace(/\r?\n$/, '').length
}

function unusable(
  message: string,
  more: { readonly because: string; readonly fix: string; readonly cause?: unknown },
): Failure {
  return new Failure('TM1523', { message, ...more })
}
