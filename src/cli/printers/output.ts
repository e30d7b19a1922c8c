/** The value of `-o`: which form, and for the forms with a value, that value. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { messageOf } from '../../lib/errors.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import type { CustomColumns } from './customcolumns.ts'
import { render } from './render.ts'

/** Makes text of one value: an object, or a List of them. */
export type Print = (value: unknown) => string

export type Output =
  | { readonly form: 'Table'; readonly wide: boolean }
  | { readonly form: 'Name' }
  | { readonly form: 'Text'; readonly print: Print }
  | { readonly form: 'Columns'; readonly columns: CustomColumns }

const valued = ['custom-columns', 'custom-columns-file', 'jsonpath', 'jsonpath-as-json', 'jsonpath-file'] as const

/** What `-o` asks for; CliError lists the forms that there are. The parts that few need are loaded when asked for. */
export async function outputOf(cli: Cli, output: string | undefined): Promise<Output> {
  if (output === undefined || output === '') return { form: 'Table', wide: false }
  if (output === 'wide') return { form: 'Table', wide: true }
  if (output === 'name') return { form: 'Name' }
  if (output === 'yaml' || output === 'json') return { form: 'Text', print: (value) => render(value, output) }
  const at = output.indexOf('=')
  const form = at < 0 ? output : output.slice(0, at)
  if (!(valued as readonly string[]).includes(form)) throw unknownForm(output)
  return valuedOutput(cli, form as (typeof valued)[number], at < 0 ? '' : output.slice(at + 1))
}

async function valuedOutput(cli: Cli, form: (typeof valued)[number], value: string): Promise<Output> {
  if (form === 'custom-columns' || form === 'custom-columns-file') {
    const { customColumns, customColumnsOfFile } = await import('./customcolumns.ts')
    const columns = form === 'custom-columns' ? customColumns(value) : customColumnsOfFile(read(cli, form, value))
    return { form: 'Columns', columns }
  }
  if (value === '')
    throw new CliError(`template format specified but no template given, e.g. -o ${form}='{.metadata.name}'`)
  const { fieldPath, jsonPathTemplate } = await import('./jsonpath.ts')
  if (form === 'jsonpath-as-json') {
    const find = fieldPath(value)
    return { form: 'Text', print: (object) => `${JSON.stringify(find(object), null, 4)}\n` }
  }
  return { form: 'Text', print: jsonPathTemplate(form === 'jsonpath' ? value : read(cli, form, value).trimEnd()) }
}

function read(cli: Cli, form: string, path: string): string {
  if (path === '') throw new CliError(`-o ${form} needs a file, e.g. -o ${form}=FILE`)
  try {
    return readFileSync(resolve(cli.cwd, path), 'utf8')
  } catch (error) {
    throw new CliError(`error reading --template ${path}: ${messageOf(error)}`)
  }
}

/** Lists what there is, in kubectl's words. */
export const unknownForm = (
  output: string,
  allowed: readonly string[] = ['wide', 'yaml', 'json', 'name', ...valued],
): CliError =>
  new CliError(
    `unable to match a printer suitable for the output format "${output}", allowed formats are: ${allowed.join(',')}`,
  )
