/**
 * Where the configuration is. Asked in this order, and the first that is given or is there
 * counts: `--config FILE`, the environment variable TIDEMARK_CONFIG, `tidemark.yaml` in the
 * working directory, `/etc/tidemark/tidemark.yaml`.
 */
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import type { Environment } from './environment.ts'

export const CONFIGURATION_VARIABLE = 'TIDEMARK_CONFIG'
export const SYSTEM_CONFIGURATION = '/etc/tidemark/tidemark.yaml'

export interface ConfigurationText {
  /** Absolute. */
  readonly path: string
  readonly text: string
}

/** TM1002 when there is none, with every place where it was looked for. */
export function readConfigurationText(
  option: string | undefined,
  env: Environment,
): ConfigurationText {
  const path = findConfigurationPath(option, env)
  if (path === undefined) throw notFound()
  try {
    return { path, text: readFileSync(path, 'utf8') }
  } catch (cause) {
    throw new Failure('TM1002', {
      message: `the configuration ${path} cannot be read`,
      because: `${describeSystemError(cause)} (${saysWho(path, option, env)})`,
      fix: 'name a file that is there and that this user may read, or create one: tidemark init',
      details: { path },
      cause,
    })
  }
}

/** The path that counts; one that was named counts whether it is there or not. */
export function findConfigurationPath(
  option: string | undefined,
  env: Environment,
): string | undefined {
  const named = option ?? nonEmpty(env[CONFIGURATION_VARIABLE])
  if (named !== undefined) return resolve(named)
  return [resolve('tidemark.yaml'), SYSTEM_CONFIGURATION].find((path) => existsSync(path))
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}

function saysWho(path: string, option: string | undefined, env: Environment): string {
  if (option !== undefined) return 'named by --config'
  if (nonEmpty(env[CONFIGURATION_VARIABLE]) !== undefined)
    return `named by ${CONFIGURATION_VARIABLE}`
  return path === SYSTEM_CONFIGURATION
    ? 'the configuration of the system'
    : 'in the working directory'
}

function notFound(): Failure {
  const places = [resolve('tidemark.yaml'), SYSTEM_CONFIGURATION]
  return new Failure('TM1002', {
    message: 'no tidemark.yaml found',
    because: `there is none at ${places.join(' nor at ')}, and neither --config nor ${CONFIGURATION_VARIABLE} names one`,
    fix: 'create one (tidemark init), or name it: tidemark --config FILE …',
    details: { lookedAt: places },
  })
}
