"""Reads PTX: the functions of a module, and the statements of their bodies."""
import dataclasses
import re


@dataclasses.dataclass
class Parameter:
    name: str
    bytes: int


@dataclasses.dataclass
class Variable:
    """An array that a module or a function declares: .shared, .local, .const or .global."""
    space: str
    name: str
    type: str
    bytes: int  # 0: as large as the launch says
    alignment: int
    values: list  # of a constant; empty: zeros


@dataclasses.dataclass
class Function:
    name: str
    is_kernel: bool
    parameters: list
    results: list  # Parameters too
    maximum_threads: int  # 0: no limit but that of the device
    body: str


@dataclasses.dataclass
class Module:
    capability: int  # 80, 90
    files: dict  # number to path
    functions: list
    variables: list


SIZES = {'pred': 1, 'b8': 1, 'u8': 1, 's8': 1, 'b16': 2, 'u16': 2, 's16': 2, 'f16': 2, 'bf16': 2,
         'b32': 4, 'u32': 4, 's32': 4, 'f32': 4, 'bf16x2': 4, 'f16x2': 4,
         'b64': 8, 'u64': 8, 's64': 8, 'f64': 8}

# What a register of a PTX type is in C++, and what an instruction of that type computes with.
STORAGE = {'pred': 'bool', 'b8': 'uint8_t', 'u8': 'uint8_t', 's8': 'uint8_t',
           'b16': 'uint16_t', 'u16': 'uint16_t', 's16': 'uint16_t',
           'b32': 'uint32_t', 'u32': 'uint32_t', 's32': 'uint32_t', 'f32': 'float',
           'b64': 'uint64_t', 'u64': 'uint64_t', 's64': 'uint64_t', 'f64': 'double'}
CPP = dict(STORAGE, s8='int8_t', s16='int16_t', s32='int32_t', s64='int64_t', bf16='uint16_t', f16='uint16_t',
           bf16x2='uint32_t', f16x2='uint32_t')

VARIABLE = re.compile(r'\.(shared|local|const|global)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)\s*'
                      r'((?:\[\d*\])*)\s*(?:=\s*(.*))?$', re.S)


def split_operands(text):
    """'%r1, {%r2, %r3}, [%r4+8]' to its three parts."""
    parts, depth, current = [], 0, ''
    for character in text:
        if character in '{[(':
            depth += 1
        if character in '}])':
            depth -= 1
        if character == ',' and depth == 0:
            parts.append(current.strip())
            current = ''
        else:
            current += character
    if current.strip():
        parts.append(current.strip())
    return parts


def parse_variable(statement):
    """The Variable that a statement declares, or None."""
    text = re.sub(r'^(\.(extern|visible|weak)\s+)+', '', statement)
    match = VARIABLE.match(text)
    if match is None:
        return None
    space, alignment, type_name, name, dimensions, values = match.groups()
    count = 1
    for dimension in re.findall(r'\[(\d*)\]', dimensions or ''):
        count *= int(dimension or 0)
    initial = split_operands(values.strip().strip('{}')) if values else []
    size = SIZES[type_name]
    return Variable(space, name, type_name, count * size, int(alignment or size), initial)


def parse_parameters(text):
    parameters = []
    for part in split_operands(text):
        part = re.sub(r'\.ptr(\s+\.\w+)?(\s+\.align\s+\d+)?', '', part)
        match = re.match(r'\.(?:param|reg)\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([%\w$]+)(?:\[(\d+)\])?', part)
        type_name, name, count = match.groups()
        parameters.append(Parameter(name, SIZES[type_name] * int(count or 1)))
    return parameters


def matching_brace(text, start):
    """The position after the brace that closes the one before `start`."""
    depth = 1
    while depth:
        depth += {'{': 1, '}': -1}.get(text[start], 0)
        start += 1
    return start


FUNCTION = re.compile(r'(\.entry|\.func)\s*(?:\(([^)]*)\)\s*)?([\w$]+)\s*(?:\((.*?)\))?([^{;()]*)([{;])', re.S)


def parse_module(text):
    """The Module of a PTX file's text."""
    text = re.sub(r'/\*.*?\*/', '', text, flags=re.S)
    text = re.sub(r'//[^\n]*', '', text)
    files = dict(re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]+)"', text, re.M))
    text = re.sub(r'^\s*\.file.*$', '', text, flags=re.M)
    text = re.sub(r'^\s*\.loc\s+(\d+)\s+(\d+).*$', r'.loc \1 \2;', text, flags=re.M)
    capability = int(re.search(r'\.target\s+sm_(\d+)', text).group(1))
    functions, outside, position = [], '', 0
    for match in FUNCTION.finditer(text):
        if match.start() < position:
            continue
        outside += text[position:match.start()]
        position = match.end()
        kind, results, name, parameters, directives, end = match.groups()
        if end == ';':
            continue  # a declaration
        position = matching_brace(text, match.end())
        threads = re.search(r'\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?', directives)
        limit = 0
        if threads:
            limit = 1
            for size in threads.groups():
                limit *= int(size or 1)
        functions.append(Function(name, kind == '.entry', parse_parameters(parameters or ''),
                                  parse_parameters(results or ''), limit, text[match.end():position - 1]))
    outside += text[position:]
    outside = re.sub(r'\.section[^{]*\{[^}]*\}', '', outside)
    statements = [' '.join(part.split()) for part in re.findall(r'((?:[^;{}]|\{[^{}]*\})*);', outside)]
    start = re.compile(r'^.*?(?=\.(extern|visible|weak|shared|const|global)\b)')
    statements = [start.sub('', part) for part in statements]
    variables = [variable for variable in map(parse_variable, statements) if variable is not None]
    return Module(capability, files, functions, variables)


LABEL = re.compile(r'\s*([$A-Za-z_][\w$]*)\s*:(?!:)')
BRACE = re.compile(r'\s*([{}])')
STATEMENT = re.compile(r'\s*((?:[^;{}]|\{[^;{}]*\})*);')


def statements_of(body):
    """Yields ('label', name), ('brace', '{' or '}') and ('statement', text) in order."""
    position = 0
    while position < len(body):
        for kind, pattern in (('label', LABEL), ('brace', BRACE), ('statement', STATEMENT)):
            match = pattern.match(body, position)
            if match:
                yield kind, ' '.join(match.group(1).split())
                position = match.end()
                break
        else:
            if body[position:].strip():
                raise ValueError('cannot read: ' + body[position:position + 80])
            return
