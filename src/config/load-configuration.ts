/** Finds, reads and parses the configuration. */
import type { Configuration } from './configuration.ts'
import type { Environment } from './environment.ts'
import { readConfigurationText } from './find-configuration.ts'
import { parseConfiguration } from './parse-configuration.ts'

export function loadConfiguration(option: string | undefined, env: Environment): Configuration {
  const { path, text } = readConfigurationText(option, env)
  return parseConfiguration(path, text)
}
