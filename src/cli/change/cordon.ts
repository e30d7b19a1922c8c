/** `mctl cordon` and `uncordon`: whether anything new may be placed on a node. `uncordon` ends a drain, too. */
import type { MctlObject } from '../../api/meta.ts'
import type { Node } from '../../api/node.ts'
import type { Client, ObjectRef } from '../../rpc/messages.ts'
import type { Command } from 'commander'
import type { Define } from '../commandform.ts'
import { examples, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { Failures } from '../errors.ts'
import { refOf, refsOfKind, targetsOf } from '../targets.ts'
import type { DryRun } from '../flags.ts'
import type { ObjectFlags } from './objects.ts'
import { change, dryRunOf, say } from './objects.ts'

export const defineCordon: Define = (command, cli, done) => {
  nodeCommand(command, examples('mctl cordon mini-1')).action(async (words: string[], flags: ObjectFlags) =>
    done(await turn(cli, 'cordon', words, flags)),
  )
}

export const defineUncordon: Define = (command, cli, done) => {
  nodeCommand(command, examples('mctl uncordon mini-1')).action(async (words: string[], flags: ObjectFlags) =>
    done(await turn(cli, 'uncordon', words, flags)),
  )
}

export const nodeCommand = (command: Command, help: string): Command =>
  command
    .argument('[nodes...]')
    .usage('NODE... [options]')
    .addOption(serverOption())
    .option('-l, --selector <labels>', 'all nodes with these labels, e.g. room=lab')
    .option('--dry-run <none|client|server>', 'only say what would happen', 'none')
    .addHelpText('after', help)

async function turn(
  cli: Cli,
  verb: 'cordon' | 'uncordon',
  words: readonly string[],
  flags: ObjectFlags,
): Promise<number> {
  const dryRun = dryRunOf(flags)
  return withClient(cli, flags.server, async (client) => {
    const failures = new Failures(cli)
    for (const ref of await nodesOf(client, words, verb, flags))
      await failures.attempt(async () => {
        const { object } = await client.get({ ref })
        const node = object as Node & MctlObject
        if (verb === 'cordon') return void (await cordon(cli, client, node, { dryRun }))
        const { unschedulable, drain } = node.spec
        if (!unschedulable && drain === undefined) return say(cli, ref, 'already uncordoned', dryRun)
        await change(client, ref, node, { patch: { spec: { unschedulable: false, drain: null } }, dryRun })
        say(cli, ref, 'uncordoned', dryRun)
      })
    return failures.exitCode
  })
}

/** Makes the node take nothing new, and with `drain` lets go of what it has; says whether it was so. */
export async function cordon(
  cli: Cli,
  client: Client,
  node: Node & MctlObject,
  { dryRun, drain }: { readonly dryRun: DryRun; readonly drain?: { readonly force: boolean } },
): Promise<MctlObject> {
  const ref = refOf('Node', node.metadata.name, undefined)
  const patch = { spec: { unschedulable: true, ...(drain === undefined ? {} : { drain }) } }
  const written = await change(client, ref, node, { patch, dryRun })
  say(cli, ref, node.spec.unschedulable ? 'already cordoned' : 'cordoned', dryRun)
  return written
}

/** `mini-1 mini-2`, `node/mini-1`, or those with a label. */
export async function nodesOf(
  client: Client,
  words: readonly string[],
  verb: string,
  flags: ObjectFlags,
): Promise<readonly ObjectRef[]> {
  const [first] = words
  if (flags.selector !== undefined) {
    if (first !== undefined) throw new CliError('error: cannot specify both a node name and a --selector option')
    return refsOfKind(client, 'Node', { selector: flags.selector })
  }
  if (first === undefined)
    throw new CliError(`USAGE: ${verb} NODE [flags]\nSee 'mctl ${verb} --help' for help and examples`)
  return words.map((word) => {
    if (!word.includes('/')) return refOf('Node', word, undefined)
    const [target] = targetsOf([word], verb)
    if (target?.kind !== 'Node') throw new CliError(`${verb} is about nodes; "${word}" names none`)
    return refOf('Node', target.name ?? '', undefined)
  })
}
