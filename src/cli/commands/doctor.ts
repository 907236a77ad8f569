/** `doctor`: checks everything that protection rests on, and proves it end to end. */
import { chooseCluster } from '../../config/configuration.ts'
import type { CommandContext } from '../command-context.ts'
import { formatCount } from '../format-units.ts'
import { type Check, printCheck } from './doctor/check.ts'
import { examine, openExamination, openStorages } from './doctor/examine.ts'
import { mend } from './doctor/mend.ts'

export interface DoctorOptions {
  readonly fix?: boolean
  /** False with --no-proof. */
  readonly proof?: boolean
}

const EXIT_PROBLEM = 3

export async function runDoctor(
  context: CommandContext,
  clusterName: string | undefined,
  options: DoctorOptions,
): Promise<number> {
  const cluster = chooseCluster(context.configuration(), clusterName)
  const { terminal, json } = context
  let examination = await openExamination(context, cluster)
  try {
    const mended = options.fix === true ? await mend(examination) : []
    if (mended.length > 0) {
      examination = { ...examination, storages: await openStorages(context, cluster) }
    }
    if (!json)
      for (const line of mended) terminal.print(`${terminal.colours.cyan('mended  ')} ${line}`)
    const checks = await examine(examination, options.proof !== false, (check) => {
      if (!json) printCheck(terminal, check)
    })
    const problems = checks.filter(({ result }) => result === 'problem').length
    if (json) terminal.printJson({ cluster: cluster.name, healthy: problems === 0, mended, checks })
    else terminal.print(summarize(cluster.name, checks))
    return problems === 0 ? 0 : EXIT_PROBLEM
  } finally {
    await examination.session?.close()
  }
}

function summarize(cluster: string, checks: readonly Check[]): string {
  const count = (result: Check['result']): number =>
    checks.filter((check) => check.result === result).length
  const problems = count('problem')
  const warnings = count('warning')
  const notes = warnings === 0 ? '' : `, ${formatCount(warnings, 'warning')}`
  if (problems > 0)
    return `\n${formatCount(problems, 'problem')}${notes}: ${cluster} is not protected`
  return `\nno problem${notes}`
}
