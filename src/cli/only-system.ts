/** The system identifier that a cluster name stands for, where there is only one. */
import { Failure } from '../base/failure.ts'
import { listSystemIdentities } from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'

/** TM1407 when the repository knows none, or several, under the name. */
export async function onlySystemIdentifier(cluster: string, storage: Storage): Promise<string> {
  const identities = await listSystemIdentities(storage, cluster)
  const only = identities[0]
  if (identities.length === 1 && only !== undefined) return only.systemIdentifier
  const known = identities.map((identity) => identity.systemIdentifier)
  if (only === undefined) {
    throw new Failure('TM1407', {
      message: `${storage.url} knows no server as ${cluster}`,
      because: 'there is no identity of a server under that name',
      fix: 'check the URL and that its file system is mounted; introduce a new server with: tidemark init',
      details: { url: storage.url, cluster },
    })
  }
  throw new Failure('TM1407', {
    message: `which server of ${cluster} is meant?`,
    because: `${storage.url} knows ${known.length} under that name: ${known.join(', ')}`,
    fix: 'name one: --system-identifier NUMBER',
    details: { url: storage.url, cluster, systemIdentifiers: known },
  })
}
