/**
 * The ladder of modules in src/ and the front door of each: who may import what. Pure:
 * takes paths, gives the reason why an import is forbidden.
 */
import { dirname, join } from 'node:path/posix'

/** Top first; a module imports only from lines below its own. */
export const LADDER: readonly (readonly string[])[] = [
  ['cli'],
  ['web'],
  ['agent'],
  ['config'],
  ['drill', 'replication'],
  ['rescue'],
  ['recovery', 'dump'],
  ['sync'],
  ['backup', 'retention', 'receive'],
  ['events'],
  ['archive'],
  ['repository'],
  ['postgres', 'storage'],
  ['base'],
]

function lineOf(module: string): number {
  return LADDER.findIndex((line) => line.includes(module))
}

/** `src/backup/x/y.ts` -> `backup`; undefined outside src/. */
export function moduleOf(path: string): string | undefined {
  const [top, module, ...rest] = path.split('/')
  return top === 'src' && rest.length > 0 ? module : undefined
}

export function isTest(path: string): boolean {
  return path.startsWith('test/') || /\.(test|soak)\.ts$/.test(path)
}

/** Why `path` must not import `specifier` (as written), or undefined. */
export function judgeImport(path: string, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) return undefined
  const target = join(dirname(path), specifier)
  const own = moduleOf(path)
  const other = moduleOf(target)
  if (other === undefined) {
    const isOutside = own !== undefined && !isTest(path)
    return isOutside ? `${specifier} is outside src/` : undefined
  }
  if (other === own) return undefined
  if (target.split('/').length > 3) {
    return `${specifier} is private to ${other}/ (only files directly in its folder are open)`
  }
  if (own === undefined || isTest(path)) return undefined
  if (lineOf(other) > lineOf(own)) return undefined
  return `${own}/ must not import ${other}/, which is not below it on the ladder`
}

/** Modules that the ladder does not know. */
export function judgeModule(path: string): string | undefined {
  const module = moduleOf(path)
  if (module === undefined || lineOf(module) >= 0) return undefined
  return `${module}/ has no line on the ladder (scripts/tidy/ladder.ts)`
}
