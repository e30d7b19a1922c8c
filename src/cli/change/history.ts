/** `mctl rollout history` and `undo`: the revisions of a deployment, and the way back to one of them. */
import { qualifiedName } from '../../api/kinds.ts'
import type { MctlObject } from '../../api/meta.ts'
import type { ModelDeployment } from '../../api/modeldeployment.ts'
import type { Revision } from '../../api/records.ts'
import { CHANGE_CAUSE_ANNOTATION, changeCauseOf } from '../../api/records.ts'
import { satisfies, templateOf } from '../../api/template.ts'
import type { Client, ObjectRef } from '../../rpc/messages.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { Failures } from '../errors.ts'
import { positiveInteger } from '../flags.ts'
import { render, withoutManagers } from '../printers/render.ts'
import type { ObjectFlags } from './objects.ts'
import { refsOf } from '../targets.ts'
import { change, deploymentAt, dryRunOf, say } from './objects.ts'

export interface HistoryFlags extends ObjectFlags {
  readonly revision?: string
  readonly output?: string
}
export interface UndoFlags extends ObjectFlags {
  readonly toRevision: string
}

export async function history(cli: Cli, words: readonly string[], flags: HistoryFlags): Promise<number> {
  const number = flags.revision === undefined ? undefined : positiveInteger('--revision', flags.revision)
  if (flags.output !== undefined && flags.output !== 'json' && flags.output !== 'yaml')
    throw new CliError(`unable to match a printer suitable for the output format "${flags.output}": use json or yaml`)
  return withClient(cli, flags.server, async (client) => {
    const failures = new Failures(cli)
    for (const ref of await refsOf(cli, client, words, 'rollout history', flags))
      await failures.attempt(async () => {
        const refusal = (kind: string) => `no history viewer has been implemented for "${kind}"`
        const deployment = await deploymentAt(client, ref, refusal)
        const revisions = await revisionsOf(client, deployment)
        cli.terminal.out(historyText(ref, revisions, number, flags.output))
      })
    return failures.exitCode
  })
}

/** Oldest first. */
async function revisionsOf(client: Client, { metadata }: ModelDeployment): Promise<readonly Revision[]> {
  const { items } = await client.list({
    kind: 'Revision',
    namespace: metadata.namespace ?? '',
    labelSelector: `mctl.dev/deployment=${metadata.name}`,
  })
  return (items as readonly (Revision & MctlObject)[])
    .filter((r) => (r.metadata.ownerReferences ?? []).some(({ uid }) => uid === metadata.uid))
    .sort((a, b) => a.spec.revision - b.spec.revision)
}

function historyText(
  ref: ObjectRef,
  revisions: readonly Revision[],
  number: number | undefined,
  output: string | undefined,
): string {
  const chosen = number === undefined ? revisions : [revisionAt(revisions, number)]
  if (output !== undefined) {
    const objects = chosen.map((r) => withoutManagers(r))
    return render(number === undefined ? { kind: 'List', apiVersion: 'v1', items: objects } : objects[0], output)
  }
  const name = qualifiedName('ModelDeployment', ref.name)
  if (number !== undefined)
    return `${name} with revision #${number}\nTemplate:\n${indented(render(chosen[0]?.spec.template, 'yaml'))}`
  const rows = revisions.map((r) => `${String(r.spec.revision).padEnd(10)}${changeCauseOf(r) ?? '<none>'}\n`)
  return `${name}\nREVISION  CHANGE-CAUSE\n${rows.join('')}\n`
}

const indented = (text: string): string => text.replaceAll(/^(?=.)/gm, '  ')

function revisionAt(revisions: readonly Revision[], number: number): Revision {
  const found = revisions.find((r) => r.spec.revision === number)
  if (found === undefined) throw new CliError(`unable to find specified revision ${number} in history`)
  return found
}

export async function undo(cli: Cli, words: readonly string[], flags: UndoFlags): Promise<number> {
  const dryRun = dryRunOf(flags)
  const number = flags.toRevision === '0' ? undefined : positiveInteger('--to-revision', flags.toRevision)
  return withClient(cli, flags.server, async (client) => {
    const failures = new Failures(cli)
    for (const ref of await refsOf(cli, client, words, 'rollout undo', flags))
      await failures.attempt(async () => {
        const refusal = (kind: string) => `no rollbacker has been implemented for "${kind}"`
        const deployment = await deploymentAt(client, ref, refusal)
        if (deployment.spec.paused)
          throw new CliError(
            `you cannot rollback a paused deployment; resume it first with 'mctl rollout resume modeldeployment/${ref.name}' and try again`,
          )
        const revisions = await revisionsOf(client, deployment)
        const target = number === undefined ? revisions.at(-2) : revisionAt(revisions, number)
        if (target === undefined)
          throw new CliError(
            `no rollout history found for deployment "${ref.name}"\nIt has had one revision only: there is nothing to go back to.`,
          )
        const now = templateOf(deployment.spec)
        if (satisfies(now, target.spec.template, ref.name)) {
          const text = `skipped rollback (current template already matches revision ${target.spec.revision})`
          return say(cli, ref, text)
        }
        await change(client, ref, deployment, { type: 'json', patch: patchTo(deployment, target), dryRun })
        say(cli, ref, 'rolled back', dryRun)
      })
    return failures.exitCode
  })
}

interface Operation {
  readonly op: 'add' | 'replace' | 'remove'
  readonly path: string
  readonly value?: unknown
}

/** Every part of the template as that revision had it; the cause of that change comes back with it. */
function patchTo({ metadata, spec }: ModelDeployment, target: Revision): readonly Operation[] {
  const { restartedAt, ...parts } = target.spec.template
  const operations: Operation[] = Object.entries(parts).map(([part, value]) => ({
    op: 'replace',
    path: `/spec/${part}`,
    value,
  }))
  if (restartedAt !== undefined) operations.push({ op: 'add', path: '/spec/restartedAt', value: restartedAt })
  else if (spec.restartedAt !== undefined) operations.push({ op: 'remove', path: '/spec/restartedAt' })

  const [cause, annotations] = [changeCauseOf(target), metadata.annotations]
  const path = `/metadata/annotations/${CHANGE_CAUSE_ANNOTATION.replace('/', '~1')}`
  if (cause !== undefined && annotations === undefined)
    operations.push({ op: 'add', path: '/metadata/annotations', value: { [CHANGE_CAUSE_ANNOTATION]: cause } })
  else if (cause !== undefined) operations.push({ op: 'add', path, value: cause })
  else if (annotations?.[CHANGE_CAUSE_ANNOTATION] !== undefined) operations.push({ op: 'remove', path })
  return operations
}
