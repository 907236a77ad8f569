/**
 * Values that must never be printed, and the references from which they come.
 *
 * Invariant: a Secret shows itself as `[secret]` wherever it is turned into text
 * (templates, JSON, util.inspect); only reveal() gives the value.
 */
import { readFileSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { describeSystemError, Failure } from '../base/failure.ts'
import type { Environment } from './environment.ts'

const HIDDEN = '[secret]'

export class Secret {
  readonly #value: string

  constructor(value: string) {
    this.#value = value
  }

  reveal(): string {
    return this.#value
  }

  toString(): string {
    return HIDDEN
  }

  toJSON(): string {
    return HIDDEN
  }

  [inspect.custom](): string {
    return HIDDEN
  }
}

/**
 * The value behind a text of the configuration: `file:/path` is the content of that file
 * without its last line break, `${NAME}` anywhere is the environment variable, and
 * anything else is the value itself. `where` names the key in messages.
 */
export function resolveSecret(text: string, where: string, env: Environment): Secret {
  const path = findSecretFile(text)
  if (path !== undefined) return new Secret(readSecretFile(path, where))
  return new Secret(replaceVariables(text, where, env))
}

/** `${NAME}` replaced by the environment; TM1005 for one that is not set. */
export function replaceVariables(text: string, where: string, env: Environment): string {
  return text.replace(/\$\{([^}]*)\}/g, (_reference, name: string) => {
    const value = env[name]
    if (value !== undefined) return value
    throw new Failure('TM1005', {
      message: `the environment variable ${name} is not set`,
      because: `${where} refers to it`,
      fix: `set ${name} for whoever runs this command (archive_command runs with the
       environment of the PostgreSQL server), or use a file: reference instead`,
      details: { variable: name, key: where },
    })
  })
}

/** The path that a reference names; undefined for what is no reference to a file. */
export function findSecretFile(text: string): string | undefined {
  if (!text.startsWith('file:')) return undefined
  return text.startsWith('file://') ? fileURLToPath(text) : text.slice('file:'.length)
}

function readSecretFile(path: string, where: string): string {
  const refused = (because: string, cause?: unknown): Failure =>
    new Failure('TM1005', {
      message: `the secret file ${path} of ${where} cannot be used`,
      because,
      fix: 'name a file that the user who runs this command can read, by its absolute path',
      details: { path, key: where },
      cause,
    })
  if (!isAbsolute(path)) throw refused('its path is not absolute')
  try {
    return readFileSync(path, 'utf8').replace(/\r?\n$/, '')
  } catch (cause) {
    throw refused(describeSystemError(cause), cause)
  }
}

/** A connection URL or string for people: without its password. */
export function withoutPassword(connection: string): string {
  return connection
    .replace(/^(\w+:\/\/[^:@/?#]*):[^@/]*@/, '$1:…@')
    .replace(/([?&]password=)[^&]*/g, '$1…')
    .replace(/(\bpassword\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)/g, '$1…')
}
