/** `mctl rollout`: how a change of a deployment's template goes on, back, again, or not. Each below is one sentence. */
import { resourceName } from '../../api/kinds.ts'
import type { KindName } from '../../api/kinds.ts'
import { timestamp } from '../../api/meta.ts'
import type { MctlObject } from '../../api/meta.ts'
import type { ModelDeployment } from '../../api/modeldeployment.ts'
import type { Command } from 'commander'
import type { Define } from '../commandform.ts'
import { examples, fileOption, namespaceOption, serverOption, subcommand } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { Failures } from '../errors.ts'
import type { ObjectFlags } from './objects.ts'
import { refsOf } from '../targets.ts'
import { change, deploymentAt, dryRunOf, notSupported, say } from './objects.ts'
import type { HistoryFlags, UndoFlags } from './history.ts'
import { history, undo } from './history.ts'
import type { StatusFlags } from './status.ts'
import { status } from './status.ts'

export const defineRollout: Define = (command, cli, done) => {
  command.addHelpText(
    'after',
    examples(
      'mctl rollout status md/smollm2-pipeline',
      'mctl rollout history md/smollm2-pipeline',
      'mctl rollout restart md/smollm2-pipeline',
      'mctl rollout undo md/smollm2-pipeline',
    ),
  )
  const below = (name: string, summary: string): Command =>
    subcommand(command, `${name} [words...]`, summary)
      .usage('(TYPE NAME... | TYPE/NAME... | -f FILE) [options]')
      .addOption(serverOption())
      .addOption(namespaceOption())
      .addOption(fileOption())
      .option('-R, --recursive', 'also the folders below')
      .option('-l, --selector <labels>', 'only objects with these labels, e.g. team=a')
  const dry = (sub: Command): Command =>
    sub.option('--dry-run <none|client|server>', 'only say what would happen', 'none')

  below('status', 'Tell how the newest change goes on, until it is rolled out or stuck.')
    .option('-w, --watch [true|false]', 'go on telling until it ends', 'true')
    .option('--revision <number>', 'only of this revision; an error when another one is newest')
    .option('--timeout <duration>', 'how long to watch; 0: as long as it takes', '0')
    .action(async (words: string[], flags: StatusFlags) => done(await status(cli, words, flags)))
  below('history', 'List the revisions, or show one.')
    .option('--revision <number>', 'show the template of this one')
    .option('-o, --output <format>', 'json or yaml')
    .action(async (words: string[], flags: HistoryFlags) => done(await history(cli, words, flags)))
  dry(below('undo', 'Go back to an earlier revision: its template is applied as a new one.'))
    .option('--to-revision <number>', 'which one; 0: the one before the newest', '0')
    .action(async (words: string[], flags: UndoFlags) => done(await undo(cli, words, flags)))
  for (const verb of ['restart', 'pause', 'resume'] as const)
    dry(below(verb, summaries[verb])).action(async (words: string[], flags: ObjectFlags) =>
      done(await perform(cli, verb, words, flags)),
    )
}

type Verb = 'restart' | 'pause' | 'resume'

const summaries: Readonly<Record<Verb, string>> = {
  restart: 'Restart every group, as an update without another change.',
  pause: 'Roll nothing further out until it is resumed.',
  resume: 'Roll out what was held back.',
}

interface Deed {
  readonly doing: string
  readonly done: string
  /** The patch, or why not. */
  patchOf(deployment: ModelDeployment & MctlObject, nowMs: number): object | string
}

const deeds: Readonly<Record<Verb, Deed>> = {
  restart: {
    doing: 'restarting',
    done: 'restarted',
    patchOf({ spec }, nowMs) {
      if (spec.paused) return "can't restart paused deployment (run rollout resume first)"
      const restartedAt = timestamp(nowMs)
      if (spec.restartedAt === restartedAt)
        return 'if restart has already been triggered within the past second, please wait before attempting to trigger another'
      return { restartedAt }
    },
  },
  pause: {
    doing: 'pausing',
    done: 'paused',
    patchOf: ({ spec }) => (spec.paused ? 'is already paused' : { paused: true }),
  },
  resume: {
    doing: 'resuming',
    done: 'resumed',
    patchOf: ({ spec }) => (spec.paused ? { paused: false } : 'is not paused'),
  },
}

async function perform(cli: Cli, verb: Verb, words: readonly string[], flags: ObjectFlags): Promise<number> {
  const dryRun = dryRunOf(flags)
  const deed = deeds[verb]
  return withClient(cli, flags.server, async (client) => {
    const failures = new Failures(cli)
    for (const ref of await refsOf(cli, client, words, `rollout ${verb}`, flags))
      await failures.attempt(async () => {
        const deployment = await deploymentAt(client, ref, notSupported(deed.doing))
        const spec = deed.patchOf(deployment, cli.clock.nowMs())
        if (typeof spec === 'string') throw new CliError(`${resourceName(ref.kind as KindName)} "${ref.name}" ${spec}`)
        await change(client, ref, deployment, { patch: { spec }, dryRun })
        say(cli, ref, deed.done, dryRun)
      })
    return failures.exitCode
  })
}
