/** Commands that write objects, or say what would become of them. */
import type { Command } from 'commander'
import { Option } from 'commander'
import type { ApplyFlags } from './apply.ts'
import { apply } from './apply.ts'
import type { Done } from './commandform.ts'
import { collect, command, examples, fileOption, namespaceOption } from './commandform.ts'
import type { Cli } from './context.ts'
import type { DeleteFlags } from './delete.ts'
import { deleteObjects } from './delete.ts'
import type { PlanFlags } from './plan.ts'
import { plan } from './plan.ts'

export function addObjectCommands(program: Command, cli: Cli, done: Done): void {
  command(program, 'apply [words...]', 'Make the cluster as the manifests say.')
    .usage('-f FILE [options]')
    .addOption(fileOption())
    .addOption(namespaceOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--dry-run <none|client|server>', 'only say what would happen', 'none')
    .option('--server-side', 'always on: mctl applies on the server')
    .option('--force-conflicts', 'take over fields that another manager owns')
    .option('--field-manager <name>', 'who owns the fields', 'mctl')
    .option('--validate <strict|warn|ignore>', 'unknown fields are errors, told, or left out in silence', 'strict')
    .option('-o, --output <format>', 'name, json or yaml')
    .option('--wait', 'until every ModelDeployment is Ready')
    .option('--timeout <duration>', 'for --wait', '10m')
    .addHelpText(
      'after',
      `\n${examples('mctl apply -f manifests/demo/pipeline.yaml --dry-run=server', 'mctl apply -f manifests/demo/pipeline.yaml --wait')}`,
    )
    .action(async (words: string[], flags: ApplyFlags) => done(await apply(cli, words, flags)))
  command(program, 'delete [words...]', 'Delete objects; ends when the processes behind them are gone.')
    .usage('(TYPE NAME... | TYPE/NAME... | TYPE --all | -f FILE) [options]')
    .addOption(fileOption())
    .addOption(namespaceOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--all', 'all objects of the type')
    .option('-l, --selector <labels>', 'only objects with these labels, e.g. team=a')
    .option('--no-wait', 'return at once')
    .option('--timeout <duration>', 'how long to wait; 0: as long as it takes', '0')
    .option('--cascade <background|foreground|orphan>', 'what becomes of the objects below', 'background')
    .option('--ignore-not-found', 'a missing object is no error')
    .option('--dry-run <none|server>', 'only say what would happen', 'none')
    .option('-o, --output <format>', 'name')
    .addHelpText(
      'after',
      `\n${examples('mctl delete md/smollm2-pipeline', 'mctl delete -f manifests/demo/pipeline.yaml --ignore-not-found')}`,
    )
    .action(async (words: string[], flags: DeleteFlags) => done(await deleteObjects(cli, words, flags)))
  command(program, 'plan', 'Would it fit, where, how fast, and why not otherwise. Nothing is written.')
    .addOption(fileOption())
    .addOption(
      new Option('--nodes <path>', 'plan offline on the Nodes of this file; no server is asked').argParser(collect),
    )
    .option('-R, --recursive', 'also the folders below')
    .option('--independent', 'plan each deployment as if it were alone')
    .option('-o, --output <format>', 'wide, json or yaml')
    .addHelpText(
      'after',
      `\n${examples('mctl plan -f manifests/experiments/qwen-32b.yaml --nodes manifests/experiments/nodes.yaml')}`,
    )
    .action(async (flags: PlanFlags) => done(await plan(cli, flags)))
}
