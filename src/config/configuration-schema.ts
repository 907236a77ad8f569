/**
 * The one table of what tidemark.yaml may say: it validates the file, and the JSON Schema
 * and the manual page are made from it. A key that is not here is an error.
 */
// The namespace: `{ z }` keeps all of its languages in the package, 15 ms of every command.
import * as z from 'zod'
import { Failure } from '../base/failure.ts'
import { isClusterName } from '../repository/keys.ts'
import { assertStorageUrl, isS3Url } from '../storage/open-storage.ts'
import { isPackAge } from './pack-age.ts'
import { isBandwidth } from './resolve-storage.ts'
import { isDuration } from './retention.ts'

const NAME_RULE = '1 to 63 of a-z, 0-9, _ and -, beginning with a letter'

const name = z.string().refine(isClusterName, { error: `a name is ${NAME_RULE}` })

function s3Text(description: string, examples: string[]) {
  return z.string().min(1).optional().meta({ description, examples })
}

/** What opens an encrypted repository. */
const encryption = z
  .strictObject({
    passphrase: z
      .string()
      .min(1)
      .optional()
      .meta({
        description:
          'A passphrase, best as `file:/path` (the content of that file) or `${NAME}` (an environment variable).',
        examples: ['file:/etc/tidemark/passphrase'],
      }),
    keyFile: z
      .string()
      .regex(/^\//, { error: 'a file is named by its absolute path' })
      .optional()
      .meta({
        description:
          'A file whose content is the key: 32 bytes or more. A last line break does not count where the rest is text.',
        examples: ['/etc/tidemark/repository.key'],
      }),
    keyCommand: z
      .string()
      .min(1)
      .optional()
      .meta({
        description:
          'A command that prints the key, for vaults. It is run by `/bin/sh -c` whenever a command opens the repository, so for every WAL segment; the shell replaces `${NAME}`, Tidemark does not.',
        examples: ['vault kv get -field=key secret/tidemark'],
      }),
  })
  .refine((one) => Object.values(one).filter((value) => value !== undefined).length === 1, {
    error: 'give exactly one of passphrase, keyFile and keyCommand',
  })
  .meta({
    description:
      'What opens this repository, which is encrypted from its creation or never. Without it, the repository is not encrypted.',
  })

const repository = z
  .strictObject({
    url: z
      .string()
      .superRefine(refuseWrongUrl)
      .meta({
        description:
          'Where the repository is: `file:///absolute/path`, or `s3://bucket/prefix` in an S3 store. The same URL must not be used twice.',
        examples: ['file:///var/lib/tidemark', 's3://acme-backups/main'],
      }),
    region: s3Text(
      'The region of the bucket. Without it that of `AWS_REGION` or of `~/.aws/config`.',
      ['eu-central-1'],
    ),
    endpoint: z
      .string()
      .regex(/^https?:\/\/[^/?#@]+\/?$/, {
        error: 'an endpoint is a URL without a path: https://s3.example.org:9000',
      })
      .optional()
      .meta({
        description: 'The S3 store, where it is not Amazon: a URL with host and port.',
        examples: ['https://s3.example.org:9000'],
      }),
    pathStyle: z.boolean().optional().meta({
      description:
        'S3: the bucket stands in the path (`https://host/bucket`) and not before the host. Most stores that are not Amazon want `true`.',
    }),
    storageClass: s3Text(
      'S3: the storage class of every object. That of the bucket unless given.',
      ['STANDARD_IA'],
    ),
    caFile: z
      .string()
      .regex(/^\//, { error: 'a file is named by its absolute path' })
      .optional()
      .meta({
        description:
          'S3: a PEM file with the certificate of the authority that the endpoint is trusted by.',
        examples: ['/etc/tidemark/ca.pem'],
      }),
    accessKeyId: s3Text(
      'S3: the key of access, given together with `secretAccessKey`. Without both: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, `~/.aws/credentials`, or the role of the machine.',
      ['${S3_KEY}'],
    ),
    secretAccessKey: s3Text(
      'S3: its secret, best as `file:/path` (the content of that file) or `${NAME}` (an environment variable).',
      ['file:/etc/tidemark/s3.secret'],
    ),
    sessionToken: s3Text('S3: the token of temporary credentials.', ['${S3_TOKEN}']),
    objectLock: z
      .strictObject({
        mode: z.enum(['governance', 'compliance']).meta({
          description:
            '`governance`: accounts with a special permission may remove locked objects. `compliance`: nobody can, not even the owner of the account.',
        }),
        days: z.int().min(1).max(36_500).meta({
          description:
            'How long objects are locked from when they are stored. Each backup extends the lock of the packs that it needs.',
        }),
      })
      .optional()
      .meta({
        description:
          'S3: what a restore needs is stored locked, so that whoever has the keys of the store cannot remove it. The bucket must have been created with object lock.',
      }),
    bandwidth: z
      .string()
      .refine(isBandwidth, { error: 'a bandwidth is a number with kB/s, MB/s or GB/s: 50MB/s' })
      .optional()
      .meta({
        description:
          'The most that one command reads from and writes to this repository, on average, in units of 1024. No limit unless given.',
        examples: ['50MB/s'],
      }),
    encryption: encryption.optional(),
  })
  .superRefine(refuseMixtures)
  .meta({ description: 'A place that keeps backups and WAL.' })

const connection = z.string().regex(/^(postgres(ql)?:\/\/|\$\{)/, {
  error: 'a connection is a URL: postgresql:///postgres?host=/var/run/postgresql',
})

const standby = z
  .strictObject({
    connection: connection.meta({
      description: 'How to reach the standby, as `connection` of the cluster.',
      examples: ['postgresql://tidemark@standby.example.org/postgres?sslmode=verify-full'],
    }),
    password: z
      .string()
      .min(1)
      .optional()
      .meta({
        description: 'As `password` of the cluster.',
        examples: ['file:/etc/tidemark/main.password'],
      }),
  })
  .meta({ description: 'A standby that may be promoted.' })

const wal = z
  .strictObject({
    source: z.enum(['archive_command', 'stream']).default('archive_command').meta({
      description:
        'How WAL comes into the archive. `archive_command`: PostgreSQL hands over each segment with `tidemark wal push`. `stream`: `tidemark wal receive` streams it, and has it up to the last flush.',
    }),
    index: z.boolean().default(true).meta({
      description:
        'After `wal push --ahead` has archived segments, a process of low priority writes their event indexes; the push does not wait for it. `false`: `events` computes them while reading, or `wal index` does.',
    }),
    slot: z
      .string()
      .regex(/^[a-z0-9_]{1,63}$/, { error: 'a slot is named by 1 to 63 of a-z, 0-9 and _' })
      .optional()
      .meta({
        description:
          'The replication slot that keeps WAL for the receiver, on the server and on each standby. `tidemark_` and the name of the cluster unless given.',
        examples: ['tidemark_main'],
      }),
    standbys: z.array(standby).optional().meta({
      description:
        'Standbys that may be promoted. Each gets the slot too, so that none lacks WAL which the receiver still needs; and when the server is gone, the receiver looks there for the new one.',
    }),
    flushEvery: z
      .string()
      .regex(/^\d{1,5}(ms|s)$/, { error: 'a time is a number of ms or s, such as 10s' })
      .optional()
      .meta({
        description:
          'In object stores: the shortest time between two pieces of the segment that is not complete, each of which is a request that is paid for. So much may be lost with the server. 10s unless given; directories are written to at once.',
        examples: ['10s'],
      }),
    onPressure: z.enum(['keep', 'invalidateSlot']).optional().meta({
      description:
        'What the server shall do when the receiver is away for long. `keep`: keep all WAL, until the disk is full (`max_slot_wal_keep_size = -1`). `invalidateSlot`: give up WAL of the receiver first (`max_slot_wal_keep_size` is set): a gap, and a new backup. `doctor` checks that the server is set up so.',
    }),
  })
  .meta({ description: 'How WAL is archived.' })

function kept(description: string) {
  return z
    .int()
    .min(0)
    .max(10_000)
    .optional()
    .meta({ description, examples: [12] })
}

function retention(description: string) {
  return z
    .strictObject({
      window: z
        .string()
        .refine(isDuration, { error: 'a duration is a number of h, d or w, such as 7d' })
        .optional()
        .meta({
          description:
            'Every moment of this time until now can be recovered, as far as backups reach back: hours, days or weeks.',
          examples: ['7d'],
        }),
      last: kept('So many of the newest backups.'),
      daily: kept('The newest backup of each of so many days that have one (UTC).'),
      weekly: kept('The newest backup of each of so many ISO weeks that have one (UTC).'),
      monthly: kept('The newest backup of each of so many months that have one (UTC).'),
      yearly: kept('The newest backup of each of so many years that have one (UTC).'),
    })
    .refine((said) => Object.values(said).some((value) => value !== undefined && value !== 0), {
      error: 'it keeps nothing but the newest backup: give window, last, daily, … or leave it out',
    })
    .meta({ description })
}

const dumps = z
  .strictObject({
    keepLast: z
      .int()
      .min(1)
      .max(10_000)
      .optional()
      .meta({
        description:
          'So many of the newest dumps of each kind: of the same databases with the same selection.',
        examples: [7],
      }),
    keepDays: z
      .int()
      .min(1)
      .max(36_500)
      .optional()
      .meta({ description: 'Every dump of so many days until now.', examples: [30] }),
  })
  .refine((said) => Object.values(said).some((value) => value !== undefined), {
    error: 'it says nothing: give keepLast, keepDays or both, or leave it out',
  })

const cluster = z
  .strictObject({
    connection: connection.meta({
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
    required: z
      .array(z.string())
      .min(1)
      .optional()
      .meta({
        description:
          'Those of the repositories that must have taken a backup or a WAL file before it counts. The first one when left out: another one that is away is left out, said so, and caught up by `sync`. A required one that is away keeps WAL in `pg_wal` until it is back.',
        examples: [['local', 'offsite']],
      }),
    wal: wal.optional(),
    maxPackAge: z
      .string()
      .refine(isPackAge, { error: 'an age is a number of days or weeks (90d, 12w), or off' })
      .optional()
      .meta({
        description:
          'What lies in packs that are older is stored again by the next backups, a part by each (10 % of the stored bytes, or 1 GiB), so that no backup depends on an ancient copy. 90d unless given; `off` stores nothing again.',
        examples: ['90d', '12w', 'off'],
      }),
    retention: retention(
      'What is kept; the rest is removed by `tidemark expire --apply`. A backup stays as long as one rule keeps it; the newest one and pinned ones always stay. Without it nothing expires.',
    ).optional(),
    retentionIn: z.record(name, retention('Of this repository.')).optional().meta({
      description: 'By name of a repository: its own retention, in place of that of the cluster.',
    }),
    dumps: dumps.optional().meta({
      description:
        'Which dumps are kept, in every repository; the rest is removed by `tidemark expire --apply`. A dump stays as long as one rule keeps it; the newest one and pinned ones always stay. Without it no dump expires.',
    }),
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

/** Keys that go together, and keys of another kind of repository. */
function refuseMixtures(
  { url, bandwidth: _, encryption: __, ...s3 }: Record<string, unknown> & { url: string },
  context: z.RefinementCtx,
): void {
  const refuse = (key: string, message: string): void => {
    context.addIssue({ code: 'custom', path: [key], message })
  }
  const given = Object.keys(s3).filter((key) => s3[key] !== undefined)
  const [first] = given
  if (!isS3Url(url) && first !== undefined) {
    refuse(first, `only an s3 repository has it; ${url} is none`)
  }
  const has = (key: string): boolean => given.includes(key)
  if (has('accessKeyId') !== has('secretAccessKey')) {
    const [present, missing] = has('accessKeyId')
      ? (['accessKeyId', 'secretAccessKey'] as const)
      : (['secretAccessKey', 'accessKeyId'] as const)
    refuse(
      present,
      `${missing} is missing beside it; give both, or none to use those of the machine`,
    )
  }
  if (has('sessionToken') && !has('secretAccessKey')) {
    refuse('sessionToken', 'it belongs to accessKeyId and secretAccessKey, which are missing')
  }
}

function refuseWrongUrl(url: string, context: z.RefinementCtx): void {
  try {
    assertStorageUrl(url)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const message = `${error.message}: ${error.because}; ${error.fix}`
    context.addIssue({ code: 'custom', message })
  }
}
