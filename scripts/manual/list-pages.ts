/** The generated pages of the manual: path below the project, and content. */
import { join } from 'node:path'
import { formatCommands } from './format-commands.ts'
import { formatConfiguration, formatSchema } from './format-configuration.ts'
import { formatErrors } from './format-errors.ts'

export interface Page {
  readonly path: string
  readonly content: string
}

export function listPages(root: string): Page[] {
  return [
    { path: 'docs/manual/errors.md', content: formatErrors() },
    { path: 'docs/manual/commands.md', content: formatCommands(join(root, 'docs/manual/parts')) },
    { path: 'docs/manual/configuration.md', content: formatConfiguration() },
    { path: 'docs/manual/tidemark.schema.json', content: formatSchema() },
  ]
}
