/**
 * `mctl edit`: the object as YAML in the user's editor. What the server refuses is shown in the file, which opens again;
 * a file that never was right is kept.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { KindName } from '../../api/kinds.ts'
import { qualifiedName } from '../../api/kinds.ts'
import type { Manifest, MctlObject } from '../../api/meta.ts'
import { parseManifests } from '../../api/yaml.ts'
import { isOpError, messageOf } from '../../lib/errors.ts'
import { mergePatchBetween } from '../../lib/mergepatch.ts'
import type { Client, ObjectRef } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { failureOf } from '../errors.ts'
import { render, withoutManagers } from '../printers/render.ts'
import type { TargetFlags } from '../targets.ts'
import { refsOf } from '../targets.ts'

interface EditFlags extends TargetFlags {
  readonly server?: string
  readonly output: string
  readonly fieldManager: string
}

export const defineEdit: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(TYPE NAME... | TYPE/NAME... | -f FILE) [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('-o, --output <yaml|json>', 'the form to edit', 'yaml')
    .option('--field-manager <name>', 'who owns the fields', 'mctl')
    .addOption(fileOption())
    .option('-R, --recursive', 'also the folders below')
    .addHelpText(
      'after',
      `\nThe editor is $MCTL_EDITOR, else $VISUAL, else $EDITOR, else vi.\n${examples('mctl edit md/smollm2-pipeline')}`,
    )
    .action(async (words: string[], flags: EditFlags) => done(await edit(cli, words, flags)))
}

async function edit(cli: Cli, words: readonly string[], flags: EditFlags): Promise<number> {
  if (flags.output !== 'yaml' && flags.output !== 'json') throw new CliError("--output must be 'yaml' or 'json'")
  return withClient(cli, flags.server, async (client) => {
    let exitCode = 0
    for (const ref of await refsOf(cli, client, words, 'edit', flags))
      exitCode = Math.max(exitCode, await editOne(cli, client, ref, flags))
    return exitCode
  })
}

const HEAD = `# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
`

async function editOne(cli: Cli, client: Client, ref: ObjectRef, flags: EditFlags): Promise<number> {
  const { object } = await client.get({ ref })
  const original = render(withoutManagers(object), flags.output)
  const file = join(mkdtempSync(join(cli.env['TMPDIR'] || tmpdir(), 'mctl-edit-')), `${ref.name}.${flags.output}`)
  const forget = () => rmSync(dirname(file), { recursive: true, force: true })
  let text = original
  let refused: string | undefined
  for (;;) {
    writeFileSync(file, (flags.output === 'yaml' ? HEAD : '') + commented(refused, flags) + text)
    try {
      await cli.terminal.edit(editorOf(cli.env), file)
    } catch (error) {
      throw new CliError(`${messageOf(error)}\nMCTL_EDITOR, VISUAL or EDITOR names the editor. ${keptIn(file)}`)
    }
    const edited = withoutComments(readFileSync(file, 'utf8'))
    if (edited.trim() === '' || edited.trim() === text.trim()) {
      if (refused !== undefined) throw new CliError(`Edit cancelled, no valid changes were saved.\n${keptIn(file)}`)
      forget()
      cli.terminal.err(
        edited.trim() === '' ? 'Edit cancelled, saved file was empty.\n' : 'Edit cancelled, no changes made.\n',
      )
      return 0
    }
    text = edited
    refused = await save(cli, client, { ref, object, text, flags })
    if (refused === undefined) break
  }
  forget()
  return 0
}

const keptIn = (file: string) => `A copy of your changes has been stored to "${file}"`

const editorOf = (env: Cli['env']): string => env['MCTL_EDITOR'] || env['VISUAL'] || env['EDITOR'] || 'vi'

const withoutComments = (text: string): string =>
  text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')

/** Above the text, as comments; JSON has none, so there it goes to stderr alone. */
const commented = (refused: string | undefined, { output }: EditFlags): string =>
  refused === undefined || output === 'json' ? '' : `${refused.replace(/^(?=.)/gm, '# ').trimEnd()}\n#\n`

interface Saving {
  readonly ref: ObjectRef
  readonly object: MctlObject
  readonly text: string
  readonly flags: EditFlags
}

/** Sends what was changed, and nothing else; what the server or the text says against it, or undefined when it is saved. */
async function save(cli: Cli, client: Client, { ref, object, text, flags }: Saving): Promise<string | undefined> {
  const { manifests, causes } = parseManifests(text, 'the edited file')
  const [edited, ...others] = manifests
  // One slip in YAML is found again in many lines: the first few tell it.
  const problems = causes
    .slice(0, 3)
    .map(({ where, field, message }) => [where, field, message].filter(Boolean).join(': '))
  if (others.length > 0) problems.push('there must be one object in the file')
  if (edited !== undefined) problems.push(...renamed(ref, edited.manifest))
  const wrong =
    problems.length > 0 || edited === undefined ? problems.join('\n') || 'there is no object in the file' : undefined
  if (wrong !== undefined) return told(cli, `${qualifiedName(ref.kind, ref.name)} could not be read:\n${wrong}`)
  const patch = mergePatchBetween(withoutManagers(object), edited?.manifest)
  const name = qualifiedName(ref.kind, ref.name)
  try {
    const { uid } = object.metadata
    const reply = await client.patch({
      ref,
      type: 'merge',
      patch: patch ?? {},
      options: { fieldManager: flags.fieldManager, fieldValidation: 'Strict' },
      preconditions: { uid },
    })
    cli.terminal.out(`${name} ${reply.result === 'unchanged' ? 'unchanged' : 'edited'}\n`)
    return undefined
  } catch (error) {
    if (!isOpError(error) || !['Invalid', 'Forbidden', 'Conflict'].includes(error.code)) throw error
    return told(cli, failureOf(error).text)
  }
}

function told(cli: Cli, text: string): string {
  cli.terminal.err(`${text}\n`)
  return text
}

function renamed(ref: ObjectRef, { kind, metadata }: Manifest): readonly string[] {
  const same =
    (kind as KindName) === ref.kind && metadata.name === ref.name && (metadata.namespace ?? '') === ref.namespace
  return same ? [] : ['kind, name and namespace may not be changed: it would be another object']
}
