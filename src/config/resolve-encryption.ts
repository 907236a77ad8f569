/**
 * From `encryption` of a repository to the secret that opens it: the passphrase, the
 * content of the key file, or what the key command prints.
 *
 * Invariant: the secret is in no message and no argument of a process. The command is
 * handed to the shell as the file says it; nothing is put into it.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describeSystemError, Failure } from '../base/failure.ts'
import type { KeySecret } from '../repository/key-slots.ts'
import type { EncryptionConfiguration } from './configuration.ts'
import type { Environment } from './environment.ts'
import { resolveSecret } from './secret.ts'

const LEAST_PASSPHRASE = 8
const LEAST_KEY_BYTES = 32
const MOST_KEY_BYTES = 64 * 1024
const COMMAND_TIMEOUT_MS = 60_000

/** TM1005 and TM1523. `where`: for messages, `repositories.local.encryption`. */
export async function resolveEncryption(
  { passphrase, keyFile, keyCommand }: EncryptionConfiguration,
  where: string,
  env: Environment,
): Promise<KeySecret> {
  if (passphrase !== undefined) return readPassphrase(passphrase, `${where}.passphrase`, env)
  if (keyFile !== undefined) return readKeyFile(keyFile, `${where}.keyFile`)
  if (keyCommand !== undefined) return await runKeyCommand(keyCommand, `${where}.keyCommand`, env)
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

/** With the environment of this command, and without input. */
async function runKeyCommand(command: string, where: string, env: Environment): Promise<KeySecret> {
  const { printed, said, ended } = await runShell(command, env)
  if (ended !== undefined) {
    throw unusable(`the key command of ${where} failed`, {
      because: [ended, firstLine(said)].filter((text) => text !== '').join(': '),
      fix: `run it by hand as the same user, with the same environment: ${command}`,
    })
  }
  const key = requireKey(printed, `what the key command of ${where} prints`)
  return { kind: 'key-command', bytes: key, where }
}

interface ShellResult {
  readonly printed: Buffer
  readonly said: string
  /** How it failed, if it did. */
  readonly ended: string | undefined
}

async function runShell(command: string, env: Environment): Promise<ShellResult> {
  return await new Promise((resolve) => {
    const shell = spawn('/bin/sh', ['-c', command], {
      env: { ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: COMMAND_TIMEOUT_MS,
    })
    const printed: Buffer[] = []
    let bytes = 0
    let said = ''
    shell.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= MOST_KEY_BYTES) printed.push(chunk)
    })
    shell.stderr.on('data', (chunk: Buffer) => {
      if (said.length < 1000) said += chunk.toString('utf8')
    })
    const end = (ended: string | undefined): void =>
      resolve({ printed: Buffer.concat(printed), said, ended })
    shell.on('error', (error) => end(describeSystemError(error)))
    shell.on('close', (status, signal) => {
      if (status === 0) end(undefined)
      else end(signal === null ? `exit status ${status}` : `it was ended by ${signal}`)
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
