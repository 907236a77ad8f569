/** Failure codes 10xx: usage and configuration. */
import { entry } from './entry.ts'

export const USAGE_CODES = entry({
  TM1001: {
    title: 'wrong usage',
    manual: 'The command line has an unknown command, option or value. Nothing was done.',
    exitStatus: 2,
  },
  TM1002: {
    title: 'configuration not found',
    manual: 'No tidemark.yaml was found where it was looked for. Nothing was done.',
    exitStatus: 2,
  },
  TM1003: {
    title: 'configuration not valid',
    manual:
      'The configuration has an unknown key or a value of the wrong kind. The message names the ' +
      'file, the line and, for a misspelt key, the nearest known one. Nothing was done.',
    exitStatus: 2,
  },
  TM1004: {
    title: 'no such cluster in the configuration',
    manual: 'The command names a cluster that the configuration does not have. Nothing was done.',
    exitStatus: 2,
  },
  TM1005: {
    title: 'secret cannot be read',
    manual:
      'The configuration refers to an environment variable that is not set, or to a file that ' +
      'cannot be read. Commands that PostgreSQL starts (archive_command) have the environment ' +
      'of the server. Nothing was done.',
    exitStatus: 2,
  },
  TM1006: {
    title: 'configuration cannot be written',
    manual:
      'The configuration file could not be created, or one that is there says something else. ' +
      'What was there is as it was.',
    exitStatus: 2,
  },
  TM1007: {
    title: 'another server has this name',
    manual:
      'A cluster of that name is in the configuration or in the repository already, for a ' +
      'server with another system identifier. Two servers under one name would mix their ' +
      'backups. Choose another name with `--name`. Nothing was changed.',
    exitStatus: 2,
  },
})
