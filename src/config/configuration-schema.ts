/**
 * The one table of what tidemark.yaml may say: it validates the file, and the JSON Schema
 * and the manual page are made from it. A key that is not here is an error.
 */
import { z } from 'zod'
import { Failure } from '../base/failure.ts'
import { isClusterName } from '../repository/keys.ts'
import { parseFileUrl } from '../storage/open-storage.ts'

const NAME_RULE = '1 to 63 of a-z, 0-9, _ and -, beginning with a letter'

const name = z.string().refine(isClusterName, { error: `a name is ${NAME_RULE}` })

const repository = z
  .strictObject({
    url: z
      .string()
      .superRefine(refuseWrongUrl)
      .meta({
        description:
          'Where the repository is: `file:///absolute/path`. The same URL must not be used twice.',
        examples: ['file:///var/lib/tidemark'],
      }),
  })
  .meta({ description: 'A place that keeps backups and WAL.' })

const wal = z
  .strictObject({
    source: z.literal('archive_command').default('archive_command').meta({
      description:
        'How WAL comes into the archive. `archive_command`: PostgreSQL hands over each segment with `tidemark wal push`.',
    }),
  })
  .meta({ description: 'How WAL is archived.' })

const cluster = z
  .strictObject({
    connection: z
      .string()
      .regex(/^(postgres(ql)?:\/\/|\$\{)/, {
        error: 'a connection is a URL: postgresql:///postgres?host=/var/run/postgresql',
      })
      .meta({
        description:
          'How to reach the server: a URL as libpq takes it. `${NAME}` is replaced by the environment variable.',
        examples: ['postgresql:///postgres?host=/var/run/postgresql&port=5432'],
      }),
    password: z
      .string()
      .min(1)
      .optional()
      .meta({
        description:
          'The password of the connection, best as `file:/path` (the content of that file) or `${NAME}` (an environment variable). Without it, `~/.pgpass` is looked at.',
        examples: ['file:/etc/tidemark/main.password'],
      }),
    repositories: z
      .array(z.string())
      .min(1)
      .optional()
      .meta({
        description:
          'Names of the repositories that take the backups and the WAL of this cluster. All of the file when left out.',
        examples: [['local']],
      }),
    wal: wal.optional(),
  })
  .meta({ description: 'A PostgreSQL cluster that is protected.' })

export const configurationSchema = z
  .strictObject({
    repositories: z
      .record(name, repository)
      .meta({ description: `Repositories by name (${NAME_RULE}).` }),
    clusters: z.record(name, cluster).meta({ description: `Clusters by name (${NAME_RULE}).` }),
  })
  .meta({ title: 'tidemark.yaml', description: 'The configuration of Tidemark.' })

export type ConfigurationFile = z.infer<typeof configurationSchema>

/** The published JSON Schema. */
export function configurationJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configurationSchema, { io: 'input' }) as Record<string, unknown>
}

function refuseWrongUrl(url: string, context: z.RefinementCtx): void {
  try {
    parseFileUrl(url)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const message = `${error.message}: ${error.because}; ${error.fix}`
    context.addIssue({ code: 'custom', message })
  }
}
