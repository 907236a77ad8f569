/**
 * Names of relations as a backup has them: the content of a frame of kind 5
 * (docs/design/repository-format.md, section 6).
 */
export interface DatabaseNames {
  readonly oid: number
  readonly name: string
  /** [file node, tablespace oid (0: the database's own), schema, name, kind] */
  readonly relations: readonly (readonly [number, number, string, string, string])[]
}

export function parseRelationNames(raw: Uint8Array): DatabaseNames[] {
  return JSON.parse(Buffer.from(raw).toString('utf8')) as DatabaseNames[]
}

/** `bench.public.accounts` for a file node; undefined when it is not known. */
export function findRelationName(
  names: readonly DatabaseNames[],
  databaseOid: number,
  filenode: number,
): string | undefined {
  for (const database of names) {
    if (databaseOid !== 0 && database.oid !== databaseOid) continue
    const relation = database.relations.find(([node]) => node === filenode)
    if (relation !== undefined) return `${database.name}.${relation[2]}.${relation[3]}`
  }
  return undefined
}
